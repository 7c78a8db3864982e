"""Comparable times: results are checked first, then medians are taken beside the copy rate of the same run.

Every row of a table says the fewest bytes that its work can move (`bytes`, by the formulas of `traffic`),
its median time with the 20th and 80th percentiles, and `copy_percent`: bytes over time, in percent of the rate of a
large copy in the same run, which counts the bytes it reads and those it writes.

On a CPU all contenders are timed in each round, in a new random order, so a machine that slows down slows all of them.
On a GPU events are recorded on the device around each call, in four ways. `mode` "eager" starts on an idle device and
so contains the time of launching; "graph" replays a CUDA graph that was queued while the device was busy.
`cache` "cold" writes a buffer of several times the L2 cache before each call; "warm" follows the same call directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from tqdm.auto import tqdm

from mome.replication.bench.tables import OUT_OF_MEMORY, unmeasured

COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}
COPIES = 10
LEAST_ROUNDS = 3
GRAPH_WARM_UP = 3
FLUSHED_CACHES = 4
BUSY_CYCLES = 1_000_000
EAGER = {"mode": "eager", "cache": "warm"}

Run = Callable[[], object]


class CheckError(RuntimeError):
    """A contender's result is wrong, so timing it would say nothing; the message names contender and difference."""


@dataclass(frozen=True, slots=True)
class Case:
    """A piece of work to be timed: `run` does it once and moves at least `moved` bytes.

    `check` is called with what is about to be timed, `run` itself or the replay of a graph, and raises CheckError if
    its result is wrong. `captured` is the work as a CUDA graph may hold it, which never waits for the device; None:
    there is no such way.
    """

    labels: dict[str, Any]
    moved: int
    run: Run
    check: Callable[[Run], None]
    captured: Run | None


class Timer:
    """Times cases on one device; `copy_rate` is that of a large copy on it, in bytes read and written a second.

    At most `rounds` times are taken of a case, fewer once a group of cases has taken `seconds`, but at least three.
    """

    def __init__(self, device: torch.device, rounds: int = 30, seconds: float = 5.0, copied: int | None = None) -> None:
        self.device, self.rounds, self.seconds = device, rounds, seconds
        self.copy_rate = copy_rate(device, copied or COPIED_BYTES[device.type])
        if device.type == "cuda":
            size = FLUSHED_CACHES * torch.cuda.get_device_properties(device).L2_cache_size
            self._flushed = torch.empty(size, dtype=torch.uint8, device=device)

    def rows(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Check all cases, then time them: one row for each, on a GPU one for each mode and state of the cache.

        Raises:
            CheckError: a result is wrong.
        """
        rows, right = [], []
        for case in cases:
            try:
                case.check(case.run)
                right.append(case)
            except torch.OutOfMemoryError:
                rows.append(unmeasured(case.labels, OUT_OF_MEMORY))
        if self.device.type == "cuda":
            return rows + [row for case in tqdm(right, desc="timing", leave=False) for row in self._on_gpu(case)]
        taken = in_rounds([case.run for case in right], self.rounds, self.seconds)
        return rows + [
            self.row({**case.labels, **EAGER}, case.moved, times) for case, times in zip(right, taken, strict=True)
        ]

    def row(
        self, labels: dict[str, Any], moved: int, seconds: Sequence[float] | numpy.ndarray | pandas.Series
    ) -> dict[str, Any]:
        """A row of a table from measured times."""
        low, median, high = (float(value) for value in numpy.percentile(seconds, (20, 50, 80)))
        spread = {"median_us": 1e6 * median, "p20_us": 1e6 * low, "p80_us": 1e6 * high, "n": len(seconds)}
        percent = 100 * moved / median / self.copy_rate
        return {**labels, "bytes": moved, **spread, "copy_percent": percent, "note": ""}

    def _on_gpu(self, case: Case) -> list[dict[str, Any]]:
        rows = self._in_mode(case, "eager", lambda: case.run)
        captured = case.captured
        if captured is not None:
            rows += self._in_mode(case, "graph", lambda: _replay(case, captured))
        return rows

    def _in_mode(self, case: Case, mode: str, prepare: Callable[[], Run]) -> list[dict[str, Any]]:
        try:
            run = prepare()
            return [self._timed(case, run, mode, cache) for cache in ("warm", "cold")]
        except torch.OutOfMemoryError:
            return [unmeasured({**case.labels, "mode": mode}, OUT_OF_MEMORY)]

    def _timed(self, case: Case, run: Run, mode: str, cache: str) -> dict[str, Any]:
        taken: list[float] = []
        started = time.perf_counter()
        run()
        while len(taken) < self.rounds and (len(taken) < LEAST_ROUNDS or time.perf_counter() - started < self.seconds):
            taken.append(self._seconds(run, mode, cache))
        return self.row({**case.labels, "mode": mode, "cache": cache}, case.moved, taken)

    def _seconds(self, run: Run, mode: str, cache: str) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(self.device)
        if mode == "graph":
            # the device spins while the host queues what follows, so the time holds no launch
            torch.cuda._sleep(BUSY_CYCLES)
        if cache == "cold":
            self._flushed.zero_()
        if mode == "eager":
            torch.cuda.synchronize(self.device)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1e3


def _replay(case: Case, captured: Run) -> Run:
    """The case as a CUDA graph, whose replay gives the right result too."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(GRAPH_WARM_UP):
            captured()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        captured()
    case.check(graph.replay)
    return graph.replay


def in_rounds(runs: Sequence[Run], rounds: int, seconds: float, seed: int = 0) -> list[list[float]]:
    """Seconds of each of `runs` in every round, after one round that warms up and does not count."""
    order = numpy.random.default_rng(seed)
    taken: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    started = time.perf_counter()
    for number in tqdm(range(rounds), desc="timing", leave=False):
        if number >= LEAST_ROUNDS and time.perf_counter() - started > seconds:
            break
        for index in order.permutation(len(runs)):
            begun = time.perf_counter()
            runs[index]()
            taken[index].append(time.perf_counter() - begun)
    return taken


def copy_rate(device: torch.device, size: int) -> float:
    """Bytes read and written a second by copies of `size` bytes from one place on the device to another; the median."""
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    if device.type == "cpu":
        (taken,) = in_rounds([lambda: target.copy_(source)], COPIES, float("inf"))
        return 2 * size / float(numpy.median(taken))
    taken = []
    for _ in range(COPIES + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize(device)
        taken.append(start.elapsed_time(end) / 1e3)
    return 2 * size / float(numpy.median(taken[1:]))


def require(error: float, bound: float, what: str) -> None:
    """Raise CheckError unless `error` is a number of at most `bound`."""
    if not error <= bound:
        raise CheckError(f"{what}: off by {error:.3g}, at most {bound:.3g} is allowed; nothing was written")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference over the norm of `expected`, in f64; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())
