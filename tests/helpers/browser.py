"""A tab of a real browser, steered by the DevTools protocol, and a server for a folder of pages."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ("--headless", "--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage")


class Tab:
    """A tab of a browser without a window, whose profile is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.websocket = pytest.importorskip("websocket", reason="websocket-client, which JupyterLab needs, is missing")
        options = [*OPTIONS, f"--user-data-dir={folder}", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        self.browser = subprocess.Popen([str(BROWSER), *options, "about:blank"], stderr=subprocess.DEVNULL)
        self.folder, self.events, self.calls = folder, list[dict[str, Any]](), 0

    def __enter__(self) -> Tab:
        port = wait(lambda: (self.folder / "DevToolsActivePort").read_text("utf-8").split()[0])
        tabs = json.loads(urlopen(f"http://127.0.0.1:{port}/json", timeout=20).read())
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self.socket = self.websocket.create_connection(address, timeout=60)
        for domain in ("Page", "Network", "Runtime", "Log"):
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
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, waited for if it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def open(self, address: str) -> None:
        """Go to a page, and wait until it is there."""
        self.call("Page.navigate", url=address)
        wait(lambda: self.value("document.readyState") == "complete" and self.value("location.href") == address)

    def resize(self, width: int, height: int = 800) -> None:
        """Let the window have this size, in CSS pixels; a narrow one is a phone's."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def happened(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def troubles(self) -> list[str]:
        """Requests that failed, errors on the console, and exceptions, so far."""
        answers = [event["response"] for event in self.happened("Network.responseReceived")]
        entries = [event["entry"] for event in self.happened("Log.entryAdded")]
        spoken = self.happened("Runtime.consoleAPICalled")
        return [
            *(f"failed: {event['errorText']}" for event in self.happened("Network.loadingFailed")),
            *(f"{answer['status']}: {answer['url']}" for answer in answers if answer["status"] >= 400),
            *(f"log: {entry['text']}" for entry in entries if entry["level"] == "error"),
            *(f"console: {event['args']}" for event in spoken if event["type"] in ("error", "assert")),
            *(f"exception: {event['exceptionDetails']}" for event in self.happened("Runtime.exceptionThrown")),
        ]

    def asked(self) -> set[str]:
        """The addresses of all requests so far."""
        return {event["request"]["url"] for event in self.happened("Network.requestWillBeSent")}


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
