"""The supervisor of `worker.py`: it starts the process, gives it statements, and ends it when one takes too long."""

from __future__ import annotations

import atexit
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

STARTS_WITHIN = 60.0  # seconds, on a machine that is very busy
ENDS_WITHIN = 10.0  # seconds after SIGKILL
WORKER = Path(__file__).with_name("worker.py")


class Supervisor:
    """One worker for this process, started when first needed; threads take turns, a forked process gets its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The worker's answer to `request`, or the error that it gave none within `seconds`; then it is ended.

        Raises:
            OSError: a worker cannot be started.
        """
        with self._lock:
            if self._worker is not None and self._worker.process.poll() is not None:
                self._end()  # something ended it between two statements
            worker = self._worker = self._worker or _Worker()
            answered = False
            try:
                answer = exchange(worker.line, request, time.monotonic() + seconds)
                answered = True
            except TimeoutError:
                return {"error": f"ended from outside after {seconds:g} seconds"}
            except (EOFError, ConnectionError):
                return {"error": f"the process that ran it ended: {worker.how_it_ended()}"}
            finally:  # after Ctrl-C too: a late answer must not be taken for the next one
                if not answered:
                    self._end()
            return answer

    def close(self) -> None:
        """End the worker, if there is one; the next statement starts another."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def forget(self) -> None:
        """In a forked process: leave the worker to the parent."""
        self._lock = threading.Lock()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.line.close()
            worker.process.returncode = 0  # no child of ours to wait for


class _Worker:
    """A running worker and the connection to it."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair()
        # a session of its own, since Ctrl-C is for this process; no terminal and no pipe of ours is open in it
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(WORKER)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        ready = False
        try:  # its start is not the first statement's time
            receive(self.line, time.monotonic() + STARTS_WITHIN)
            ready = True
        except (EOFError, OSError) as error:
            raise OSError(f"{WORKER.name}: the process for SQL does not start: {self.how_it_ended()}") from error
        finally:
            if not ready:
                self.end()

    def how_it_ended(self) -> str:
        """Such as "SIGKILL" or "exit code 1"; a worker that still runs is ended first."""
        try:
            code = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.end()
            return "it did not answer"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.line.close()
        self.process.kill()
        self.process.wait(timeout=ENDS_WITHIN)


def exchange(line: socket.socket, request: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Send a request and wait for its answer, until `deadline` on the monotonic clock.

    Raises:
        TimeoutError: the deadline has passed.
        EOFError, ConnectionError: the other end is closed.
    """
    content = json.dumps(request).encode()
    line.settimeout(_left(deadline))
    line.sendall(len(content).to_bytes(8, "big") + content)
    return json.loads(receive(line, deadline), object_hook=_blob)


def receive(line: socket.socket, deadline: float) -> bytes:
    """The content of the next message; raises as `exchange` does."""
    return _exactly(line, int.from_bytes(_exactly(line, 8, deadline), "big"), deadline)


def _exactly(line: socket.socket, size: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < size:
        line.settimeout(_left(deadline))
        piece = line.recv(min(size - len(found), 2**20))
        if not piece:
            raise EOFError("the worker's end is closed")
        found += piece
    return bytes(found)


def _left(deadline: float) -> float:
    """Seconds until then; a socket would wait for ever with none, and not at all with 0."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


def _blob(found: dict[str, Any]) -> Any:
    """What the worker wrote for a blob, as bytes; its answer itself stays a dictionary."""
    return base64.b64decode(found["blob"]) if "blob" in found else found


SUPERVISOR = Supervisor()
atexit.register(SUPERVISOR.close)
os.register_at_fork(after_in_child=SUPERVISOR.forget)
