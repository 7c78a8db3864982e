"""The built site: no failed reference, every page is reached, a search finds words, the network is not asked."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import mome

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
MOST_BYTES = 25_000_000  # of the live page's files
OUTSIDE = re.compile(r"(?:https?:)?//")
STYLE_URL = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)")


class Page(HTMLParser):
    """What a page loads, where it links to, and its images without an alternative text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if LOADED.get(tag) in found:
            self.loaded.append(found[LOADED[tag]])
        if tag in ("a", "form"):
            self.links.append(found.get("href" if tag == "a" else "action", ""))
        if tag == "img" and not found.get("alt", "").strip():
            self.without_text.append(found.get("src", ""))


def requests(site: Path) -> Iterator[str]:
    """What pages and style sheets would ask another machine for."""
    for path in sorted(site.rglob("*.html")):
        loaded = Page(path.read_text("utf-8")).loaded
        yield from (f"{path.name}: {place}" for place in loaded if OUTSIDE.match(place))
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        yield from (f"{path.name}: {place}" for place in STYLE_URL.findall(path.read_text("utf-8")))


def reached(site: Path) -> set[Path]:
    """Every page that links lead to from the front page."""
    waiting, seen = [site / "index.html"], {site / "index.html"}
    while waiting:
        page = waiting.pop()
        places = [unquote(link.partition("#")[0]) for link in Page(page.read_text("utf-8")).links]
        found = {(page.parent / place).resolve() for place in places if place.endswith(".html")}
        new = {path for path in found - seen if path.is_file() and path.is_relative_to(site)}
        waiting, seen = [*waiting, *new], seen | new
    return seen


def search(site: Path, *words: str) -> set[str]:
    """The pages whose index entry has all words, as the search of the site finds them."""
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip(")"))
    pages = []
    for word in words:
        found = index["terms"].get(word, [])
        pages.append({index["docnames"][number] for number in ([found] if isinstance(found, int) else found)})
    return set.intersection(*pages)


def test_what_the_checks_look_for_is_found(tmp_path: Path):
    text = '<a href="b.html#x">b</a><img src="a.png"><script src="https://cdn.example/a.js"></script>'
    (tmp_path / "index.html").write_text(text + "<style>@import 'https://fonts.example/f.css'</style>", "utf-8")
    (tmp_path / "b.html").write_text('<img src="c.png" alt="a curve"><a href="https://elsewhere.example">', "utf-8")
    (tmp_path / "alone.html").touch()
    assert len(list(requests(tmp_path))) == 2
    assert reached(tmp_path) == {tmp_path / "index.html", tmp_path / "b.html"}
    assert Page(text).without_text == ["a.png"] and not Page((tmp_path / "b.html").read_text()).without_text


@pytest.mark.slow
def test_the_book_is_whole_and_asks_the_network_for_nothing(site: Path):
    assert not list(requests(site))
    pages = {path for path in site.rglob("*.html") if "_static" not in path.parts}
    assert not sorted(path.name for path in pages - reached(site))
    assert "notebooks/book/glossary" in search(site, "null", "key") and not search(site, "null", "nonexistentword")
    lacking = {str(path.relative_to(site)): Page(path.read_text("utf-8")).without_text for path in sorted(pages)}
    assert not {path: images for path, images in lacking.items() if images}
    api = (site / "notebooks" / "book" / "api.html").read_text("utf-8")
    assert not [name for name in mome.__all__ if f'id="mome.{name}"' not in api]
    assert (site / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert "Built from commit" in (site / "index.html").read_text("utf-8")


@pytest.mark.slow
def test_the_live_page_is_small_enough(live_site: Path):
    assert sum(path.stat().st_size for path in (live_site / "live").iterdir()) <= MOST_BYTES
