"""The kill loop: an action is killed at a random time of its duration, and what it leaves must be whole."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from tqdm import tqdm

LONGEST = 300.0  # seconds that one action may take
SPARE = 1.1  # of the duration measured, so that the last moments are reached


@dataclass
class Kills:
    """Outcomes of a killed action: `at_work` counts the kills that came before its end."""

    action: str
    kills: int = 0
    at_work: int = 0
    found: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in sorted(self.found.items()))
        lost = len(self.problems)
        return f"{self.action:<10} {self.kills:>4} kills, {self.at_work:>3} at work; found {found}; lost {lost}"

    def note(self, found: str) -> None:
        """Count a state that was found."""
        self.found[found] = self.found.get(found, 0) + 1


def kill_loop(
    name: str,
    prepare: Callable[[], None],
    action: Callable[[], None],
    check: Callable[[], str],
    kills: int,
    seed: int,
) -> Kills:
    """Kill `action` `kills` times, each after `prepare`; `check` names the state found, or raises what is wrong."""
    counts, draw = Kills(name), random.Random(f"{name} {seed}")
    prepare()
    killed, duration = _run(action, LONGEST)
    if killed:
        raise RuntimeError(f"{name}: took longer than {LONGEST:.0f} s")
    if check() != "new":
        raise RuntimeError(f"{name}: does not do its work even when it is not killed")
    for _ in range(kills):
        prepare()
        counts.kills += 1
        killed, seconds = _run(action, draw.uniform(0, SPARE * duration))
        counts.at_work += killed
        duration = duration if killed else min(duration, seconds)  # the first one may have met a busier machine
        try:
            counts.note(check())
        except Exception as error:  # whatever it is, something was lost: the table says so, and the command fails
            counts.problems.append(f"{name}: {type(error).__name__}: {error}")
    return counts


def _run(action: Callable[[], None], seconds: float) -> tuple[bool, float]:
    """Run `action` in a child process, killed after `seconds`; whether it was, and the seconds it ran.

    Raises:
        RuntimeError: it ended by itself with an error.
    """
    child = os.fork()
    if not child:
        _work(action)
    started = time.monotonic()
    end = started + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(min(0.002, max(0.0, end - time.monotonic())))
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the action ended with exit code {os.WEXITSTATUS(status)} before it was killed")
    return os.WIFSIGNALED(status), time.monotonic() - started


def _work(action: Callable[[], None]) -> None:
    """In the child: the action without its progress bars; never returns."""
    code = 1
    tqdm.set_lock(threading.RLock())  # the usual one is shared with the parent, and a killed child never gives it back
    errors = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    try:
        action()
        code = 0
    except BaseException:
        os.write(errors, traceback.format_exc().encode())
    finally:
        sys.stdout.flush()
        os._exit(code)
