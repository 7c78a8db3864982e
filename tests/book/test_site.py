"""The built site: no failed reference, every page is reached, a search finds words, the network is not asked."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import urlopen

import pytest

import mome

ROOT = Path(__file__).parents[2]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
OUTSIDE = re.compile(r"(?:https?:)?//")
STYLE_URL = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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


def build(source: Path, site: Path) -> str:
    """Sphinx's warnings."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-b",
        "html",
        "-c",
        str(ROOT / "notebooks" / "book"),
        str(source),
        str(site),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_what_the_checks_look_for_is_found(tmp_path: Path):
    text = '<a href="b.html#x">b</a><img src="a.png"><script src="https://cdn.example/a.js"></script>'
    (tmp_path / "index.html").write_text(text + "<style>@import 'https://fonts.example/f.css'</style>", "utf-8")
    (tmp_path / "b.html").write_text('<img src="c.png" alt="a curve"><a href="https://elsewhere.example">', "utf-8")
    (tmp_path / "alone.html").touch()
    assert len(list(requests(tmp_path))) == 2
    assert reached(tmp_path) == {tmp_path / "index.html", tmp_path / "b.html"}
    assert Page(text).without_text == ["a.png"] and not Page((tmp_path / "b.html").read_text()).without_text


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The whole book, its notebooks without outputs."""
    pytest.importorskip("sphinx_book_theme", reason="Sphinx is not installed: make book")
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "runs"))
    command = [sys.executable, str(ROOT / "notebooks" / "book" / "assemble.py"), str(tmp_path / "source")]
    subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=ROOT)
    assert build(tmp_path / "source", tmp_path / "site") == ""
    return tmp_path / "site"


@pytest.mark.slow
def test_the_book_is_whole_and_asks_the_network_for_nothing(site: Path):
    """One test, because a build takes ten seconds."""
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


class Tab:
    """A tab of a browser without a window, steered by the DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        self.websocket = pytest.importorskip("websocket", reason="websocket-client, which JupyterLab needs, is missing")
        options = ["--headless", "--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage"]
        options += [f"--user-data-dir={folder}", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        self.browser = subprocess.Popen([str(BROWSER), *options, "about:blank"], stderr=subprocess.DEVNULL)
        self.folder, self.events, self.calls = folder, list[dict[str, Any]](), 0

    def __enter__(self) -> "Tab":
        port = wait(lambda: (self.folder / "DevToolsActivePort").read_text("utf-8").split()[0])
        tabs = json.loads(urlopen(f"http://127.0.0.1:{port}/json", timeout=20).read())
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self.socket = self.websocket.create_connection(address, timeout=60)
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        self.browser.kill()
        self.browser.wait(timeout=60)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (reply := json.loads(self.socket.recv())).get("id") != self.calls:
            self.events.append(reply)
        return reply["result"]

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def happened(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not printed."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The site as `python -m http.server` serves it: from a file a browser lets no script read other pages."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def wait(ask: Callable[[], Any], seconds: float = 60) -> Any:
    """What `ask` returns once that is true; OSError counts as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if found := ask():
                return found
        time.sleep(0.1)
    raise TimeoutError(f"nothing after {seconds} seconds")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is here to open the book in")
def test_a_browser_sorts_the_claims_sets_formulas_and_finds_words(site: Path, tmp_path: Path):
    with served(site) as home, Tab(tmp_path / "browser") as tab:
        tab.call("Page.navigate", url=f"{home}/notebooks/book/claims.html")
        wait(lambda: tab.value("document.querySelectorAll('th button').length") == 8)
        tab.value("document.querySelectorAll('th button')[5].click()")
        cells = "[...document.querySelectorAll('article tbody tr')].map((row) => row.cells[5].textContent.trim())"
        verdicts = tab.value(cells)
        assert verdicts == sorted(verdicts) and verdicts[0] == "contradicted"
        tab.call("Page.navigate", url=f"{home}/notebooks/05_fig4_architecture.html")
        wait(lambda: tab.value("document.querySelectorAll('mjx-container').length"))
        tab.call("Page.navigate", url=f"{home}/search.html?q=null+key")
        wait(lambda: tab.value("!!document.querySelector('#search-results a[href*=glossary]')"))
        tab.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
        assert tab.value("document.documentElement.scrollWidth") <= 400
        asked = [event["request"]["url"] for event in tab.happened("Network.requestWillBeSent")]
        assert asked and not [url for url in asked if not url.startswith((home, "data:", "about:"))]
        assert not tab.happened("Network.loadingFailed") and not tab.happened("Runtime.exceptionThrown")
