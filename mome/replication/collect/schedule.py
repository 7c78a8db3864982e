"""Runs measurements as processes, several at a time, each with a time limit and a log of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from mome.replication.collect.measurements import Measurement

DONE, WAITED = "done", "left out: what it waits for failed"
COMMAND = "from mome.cli import app; app()"
# a row has the same bits however many run at a time: sums in two threads gave 92 of 1,200 free answers other words
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

Say = Callable[[str], None]


def run_all(
    wanted: Sequence[Measurement], folder: str, logs: Path, jobs: int, limit_seconds: float, say: Say = print
) -> dict[str, str]:
    """Run each measurement, at most `jobs` at a time, and give what became of each: "done", or what was wrong.

    One that waits for others starts when they are done; those that are not `wanted` are not waited for. Every process
    is ended after `limit_seconds`; the rows that it had measured stay. Its output is in `logs`, one file each.
    """
    logs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **ONE_THREAD}
    waiting, ended = {each.name: each for each in wanted}, dict[str, str]()
    running: dict[Future[str], str] = {}
    names = set(waiting)
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for name in _ready(waiting, names, ended)[: jobs - len(running)]:
                each = waiting.pop(name)
                say(f"{name}: started")
                running[pool.submit(_run, each, folder, logs, limit_seconds, environment)] = name
            _leave_out(waiting, ended, say)
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                name = running.pop(future)
                ended[name] = future.result()
                say(f"{name}: {ended[name]} ({len(ended)} of {len(names)})")
    return {each.name: ended[each.name] for each in wanted}


def _ready(waiting: Mapping[str, Measurement], names: set[str], ended: Mapping[str, str]) -> list[str]:
    """Those that wait for nothing any more, in their order."""
    return [
        name
        for name, each in waiting.items()
        if all(ended.get(other) == DONE for other in each.after if other in names)
    ]


def _leave_out(waiting: dict[str, Measurement], ended: dict[str, str], say: Say) -> None:
    """End those that wait for one that failed, and those that wait for these."""
    while failed := [
        name for name, each in waiting.items() if any(ended.get(other, DONE) != DONE for other in each.after)
    ]:
        for name in failed:
            waiting.pop(name)
            ended[name] = WAITED
            say(f"{name}: {WAITED}")


def _run(each: Measurement, folder: str, logs: Path, seconds: float, environment: Mapping[str, str]) -> str:
    """Run one to its end; what became of it."""
    log = logs / f"{each.name}.log"
    started = time.perf_counter()
    with log.open("w") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, *each.words(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=seconds,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"ended after its limit of {seconds:.0f} s, see {log}"
    if done.returncode:
        return f"failed with exit code {done.returncode} after {time.perf_counter() - started:.0f} s, see {log}"
    return DONE
