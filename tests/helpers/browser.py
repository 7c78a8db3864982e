"""A tab of a real browser, steered by Playwright, and a server for a folder of pages."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ("--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage")
MILLISECONDS = 60_000  # the longest that anything here is waited for


class Tab:
    """A tab of the system's browser without a window, with a profile of its own."""

    def __init__(self) -> None:
        sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make book")
        self.starting, self.addresses, self.failures = sync_api.sync_playwright(), set[str](), list[str]()

    def __enter__(self) -> Tab:
        self.playwright = self.starting.start()
        launched = {"executable_path": BROWSER, "args": OPTIONS, "timeout": MILLISECONDS}
        self.browser = self.playwright.chromium.launch(**launched)
        self.page = self.browser.new_page()
        self.page.set_default_timeout(MILLISECONDS)
        self.page.on("request", lambda request: self.addresses.add(request.url))
        self.page.on("requestfailed", lambda request: self.failures.append(f"failed: {request.url} {request.failure}"))
        self.page.on("response", self._answered)
        self.page.on("console", self._spoken)
        self.page.on("pageerror", lambda error: self.failures.append(f"exception: {error}"))
        return self

    def __exit__(self, *error: object) -> None:
        self.browser.close()
        self.playwright.stop()

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.failures.append(f"{response.status}: {response.url}")

    def _spoken(self, message: Any) -> None:
        if message.type in ("error", "assert"):
            self.failures.append(f"console: {message.text}")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, waited for if it is a promise."""
        return self.page.evaluate(expression)

    def open(self, address: str) -> None:
        """Go to a page, and wait until it is there; the one before is left when it has all that it asked for."""
        self.page.wait_for_load_state("networkidle")  # what is given up on the way counts as failed
        self.page.goto(address, wait_until="load")

    def resize(self, width: int, height: int = 800) -> None:
        """Let the window have this size, in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def troubles(self) -> list[str]:
        """Requests that failed, errors on the console, and exceptions, so far."""
        return list(self.failures)

    def asked(self) -> set[str]:
        """The addresses of all requests so far."""
        return set(self.addresses)


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
