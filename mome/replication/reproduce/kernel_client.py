"""A kernel manager for nbclient whose client hears every reply, and a watch over the kernel's processes.

jupyter_client sends each message past the asyncio socket, raw on the socket beneath (`Session.send`; so up to 8.10.0
at least). libzmq signals news on a socket once, and a raw send takes note of that signal: a reply that has arrived by
then is never announced to who awaits it. nbclient awaits a cell's reply without a limit while it answers, on the same
socket, each output that an ipywidgets `Output` captures. So a kernel sits idle, its reply unread, and papermill waits
for ever (nbclient issue 312; ipykernel had the same fault on its own side, mended by its pull request 1529).
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from traitlets import Type

# Of one core: an idle kernel uses less than a hundredth, and one that computes beside seven other processes an eighth.
COMPUTING_SHARE = 0.05
SAMPLES = 32


class HearingChannel(AsyncZMQSocketChannel):
    """A channel that looks for arrived messages after each message it sends."""

    def send(self, msg: dict[str, Any]) -> None:
        """Send, and wake tasks that await a message which has arrived meanwhile."""
        super().send(msg)
        if self.socket is not None and _in_a_loop():
            self.socket.get(zmq.EVENTS)  # pyzmq schedules the handlers of the events that this shows


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # this is how asyncio says no
        return False
    return True


class HearingClient(AsyncKernelClient):
    """An asynchronous client that hears every reply on the shell channel."""

    shell_channel_class = Type(HearingChannel)


class HearingManager(AsyncKernelManager):
    """What nbclient's option `kernel_manager_class` takes; nbconvert and papermill hand it on."""

    client_factory = Type(HearingClient, klass=AsyncKernelClient)


class KernelProcesses:
    """The processes of one kernel: what they compute, the most memory they took, and their end.

    `peak_bytes` is their greatest resident memory together, of the moments at which `sample` was called. A
    kernel leads a process group of its own. Its descendants are noted by `sample`, so that those that left the group
    are found too.
    """

    def __init__(self) -> None:
        self._leader: psutil.Process | None = None
        self._descendants: set[psutil.Process] = set()
        self._used: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self.peak_bytes = 0
        self._lock = threading.Lock()

    def manager_class(self) -> type[HearingManager]:
        """The manager whose kernel these processes are."""
        processes = self

        class WatchedManager(HearingManager):
            async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
                await super().start_kernel(**options)
                assert self.provisioner is not None
                processes.lead((await self.provisioner.get_provisioner_info())["pid"])

        return WatchedManager

    def lead(self, pid: int) -> None:
        """Take the process `pid` for the kernel's first."""
        with self._lock:
            self._leader = psutil.Process(pid)

    def sample(self) -> None:
        """Note the living descendants, the CPU seconds that all have used, and their memory."""
        with self._lock:
            try:
                if self._leader is None:
                    return
                self._descendants |= set(self._leader.children(recursive=True))
                times = self._leader.cpu_times()
                memory = self._leader.memory_info().rss
            except psutil.NoSuchProcess:
                return
            used = times.user + times.system + times.children_user + times.children_system
            others = [_cpu_seconds_and_bytes(process) for process in self._descendants]
            self._used.append((time.monotonic(), used + sum(seconds for seconds, _ in others)))
            self.peak_bytes = max(self.peak_bytes, memory + sum(taken for _, taken in others))

    def computing(self, seconds: float) -> bool:
        """True where they used a CPU in the last `seconds`; False for a kernel that waits or sleeps."""
        with self._lock:
            recent = [(moment, used) for moment, used in self._used if moment >= time.monotonic() - seconds]
        if len(recent) < 2:
            return False
        (start, before), (end, after) = recent[0], recent[-1]
        return after - before > COMPUTING_SHARE * (end - start)

    def kill(self) -> None:
        """End all of them at once, whatever they do."""
        self.sample()
        with self._lock:
            if self._leader is None:
                return
            _unless_gone(partial(os.killpg, self._leader.pid, signal.SIGKILL))
            for process in self._descendants:
                _unless_gone(process.kill)


def _unless_gone(kill: Callable[[], None]) -> None:
    try:
        kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return  # it has ended, as it should


def _cpu_seconds_and_bytes(process: psutil.Process) -> tuple[float, int]:
    try:
        times, memory = process.cpu_times(), process.memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0, 0
    return float(times.user + times.system), memory
