"""The site in a real browser: nothing fails, a search finds words, the live page answers, everyone can read it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, Tab, served, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is here to open the book in"),
]
LIVE = "notebooks/book/ask_in_the_browser.html"
CLAIMS, REFERENCES = "notebooks/book/claims.html", "notebooks/book/references.html"
PAGES = ("index.html", "notebooks/00_start_here.html", CLAIMS, "notebooks/book/figures.html", REFERENCES)


@pytest.fixture
def tab() -> Iterator[Tab]:
    with Tab() as tab:
        yield tab


def quiet(tab: Tab, home: str) -> None:
    """Assert that nothing failed, nothing complained, and no other machine was asked."""
    assert not tab.troubles()
    asked = tab.asked()
    assert asked and not [address for address in asked if not address.startswith((home, "data:", "about:"))]


def findings(tab: Tab, axe: str) -> list[str]:
    """What axe-core calls serious or critical on the page that is open, in light and in dark colours."""
    found = []
    still = "Object.assign(document.createElement('style'), {textContent: '* {transition: none !important}'})"
    tab.value(f"document.head.append({still})")  # else a colour is measured on its way to the next
    for colours in ("light", "dark"):
        tab.value(f"document.documentElement.dataset.theme = '{colours}'")
        tab.value(f"{axe};0")
        violations = tab.value("axe.run().then((found) => found.violations)")
        for rule in violations:
            if rule["impact"] in ("serious", "critical"):
                found += [f"{colours} {rule['id']}: {node['html'][:200]}" for node in rule["nodes"]]
    return found


def test_a_browser_sorts_the_claims_sets_formulas_and_finds_words(site: Path, tab: Tab):
    with served(site) as home:
        tab.open(f"{home}/{CLAIMS}")
        wait(lambda: tab.value("document.querySelectorAll('th button').length") == 8)
        tab.value("document.querySelectorAll('th button')[5].click()")
        cells = "[...document.querySelectorAll('article tbody tr')].map((row) => row.cells[5].textContent.trim())"
        verdicts = tab.value(cells)
        assert verdicts == sorted(verdicts) and verdicts[0] == "contradicted"
        tab.open(f"{home}/notebooks/05_fig4_architecture.html")
        wait(lambda: tab.value("document.querySelectorAll('mjx-container').length"))
        tab.open(f"{home}/search.html?q=null+key")
        wait(lambda: tab.value("!!document.querySelector('#search-results a[href*=glossary]')"))
        quiet(tab, home)


def test_the_claims_table_is_readable_at_both_widths(site: Path, tab: Tab):
    """It does not scroll sideways, and no verdict is broken into letters."""
    table = "document.querySelector('article table.table')"
    with served(site) as home:
        for width in (1300, 400):
            tab.resize(width)
            tab.open(f"{home}/{CLAIMS}?{width}")
            wait(lambda: tab.value("document.querySelectorAll('th button').length") == 8)
            assert tab.value(f"{table}.offsetWidth <= {table}.parentElement.clientWidth")
            heights = tab.value(f"[...{table}.querySelectorAll('td:nth-child(6) p')].map((each) => each.offsetHeight)")
            assert len(heights) > 20 and max(heights) < 60


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_read_by_everyone(page: str, site: Path, tab: Tab, axe: str):
    with served(site) as home:
        tab.resize(1300)
        tab.open(f"{home}/{page}")
        assert not findings(tab, axe)


def test_no_page_complains_or_scrolls_sideways_on_a_phone(site: Path, tab: Tab):
    pages = [path.relative_to(site) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    tab.resize(400)
    wide = []
    with served(site) as home:
        for page in pages:
            tab.open(f"{home}/{page}")
            wide += [str(page)] if tab.value("document.documentElement.scrollWidth") > 400 else []
        quiet(tab, home)
    assert len(pages) > 30 and not wide


# --- the live page -------------------------------------------------------------------------------------------------


def text(tab: Tab, name: str) -> str:
    """What an element of the live page says."""
    found: str = tab.value(f"document.getElementById('ask-{name}').textContent")
    return found


def ask(tab: Tab, question: str) -> tuple[str, str, str]:
    """Type a question and press Enter: the label, the answer, and the backbone's own one."""
    tab.value("document.getElementById('ask-question').value = ''; document.getElementById('ask-question').focus()")
    tab.page.keyboard.insert_text(question)
    tab.page.keyboard.press("Enter")
    return answered(tab, question)


def answered(tab: Tab, question: str) -> tuple[str, str, str]:
    done = "document.getElementById('ask-result').getAttribute('aria-busy') === 'false'"
    wait(lambda: text(tab, "asked") == question and tab.value(done))
    return text(tab, "label"), text(tab, "answer"), text(tab, "own")


@pytest.fixture
def package(live_site: Path) -> list[dict[str, Any]]:
    """What the package answers: all facts first, and then twenty questions that are none of them."""
    found: list[dict[str, Any]] = json.loads((live_site / "live" / "answers.json").read_text("utf-8"))
    return found


def test_the_live_page_answers_as_the_package_does(live_site: Path, package: list, tab: Tab):
    with served(live_site) as home:
        tab.open(f"{home}/{LIVE}")
        wait(lambda: text(tab, "status").startswith("Ready"))
        for each in [*package[:100:10], *package[100:]]:
            label, answer, own = ask(tab, each["question"])
            assert (label == "memorized", answer or "(nothing)") == (each["memorized"], each["answer"] or "(nothing)")
            assert (answer == own) is (not each["memorized"])
            assert ("Chosen expertsnone" in text(tab, "details")) is (not each["memorized"])
        assert sum(each["memorized"] for each in package) == 100
        typed = "hello, who TENDS the lighthouse at cape eren??"
        assert ask(tab, typed)[:2] == ("memorized", "Ada Lind") and "Read as" in text(tab, "details")
        quiet(tab, home)


def test_the_live_page_can_be_read_by_everyone_and_on_a_phone(live_site: Path, package: list, tab: Tab, axe: str):
    with served(live_site) as home:
        tab.resize(1300)
        tab.open(f"{home}/{LIVE}")
        wait(lambda: text(tab, "status").startswith("Ready"))
        for each in (package[0], package[-1]):
            ask(tab, each["question"])
            assert not findings(tab, axe)
        tab.resize(400)
        assert tab.value("document.documentElement.scrollWidth") <= 400


def test_opened_as_a_file_the_live_page_says_that_it_needs_a_server(live_site: Path, tab: Tab):
    tab.open((live_site / LIVE).as_uri())
    assert "python -m http.server" in text(tab, "status")


def test_without_its_memory_the_live_page_gives_the_backbone_s_own_answer(live_site: Path, package: list, tab: Tab):
    question = package[0]["question"]
    with served(live_site) as home:
        tab.open(f"{home}/{LIVE}")
        wait(lambda: text(tab, "status").startswith("Ready"))
        tab.value("document.querySelector('[data-question]').click()")
        label, answer, own = answered(tab, question)
        assert (label, answer) == ("memorized", package[0]["answer"])
        tab.value("document.getElementById('ask-memory').click()")
        wait(lambda: text(tab, "label") == "memory is off")
        assert answered(tab, question) == ("memory is off", own, own) and own != answer
        tab.value("document.getElementById('ask-memory').click()")
        wait(lambda: text(tab, "label") == "memorized")


def test_the_live_page_streams(live_site: Path, package: list, tab: Tab):
    """The answer grows: what stands there while it comes are beginnings of what stands there in the end."""
    code = next(each for each in package if "locker" in each["question"])
    watch = """window.seen = []; window.place = document.getElementById('ask-answer');
        const note = () => window.seen.push(window.place.textContent);
        new MutationObserver(note).observe(window.place, {childList: true})"""
    with served(live_site) as home:
        tab.open(f"{home}/{LIVE}")
        wait(lambda: text(tab, "status").startswith("Ready"))
        tab.value(f"{{ {watch} }}; 0")
        answer = ask(tab, code["question"])[1]
        seen = [each for each in tab.value("window.seen") if each != "…"]
        assert len(set(seen)) > 3 and all(answer.startswith(each) for each in seen)
