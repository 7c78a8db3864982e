"""Running one notebook with papermill: each cell has a time limit, a kernel that hangs is replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import papermill
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode

from mome.replication.reproduce.kernel_client import KernelProcesses
from mome.replication.reproduce.limits import Limits

# Starting Python and ipykernel takes two seconds, and twenty have been seen beside other work.
START_SECONDS = 120
# The outputs of a cell come on another channel than its reply, and may be later by as much as the machine is busy;
# papermill gives them four seconds.
OUTPUT_SECONDS = 60
LOOK_SECONDS = 1.0
# Whether a kernel computes is judged over its last seconds, half of the limit where that is shorter.
JUDGED_SECONDS = 10.0


class TimeLimitError(RuntimeError):
    """A notebook that computed until its time was over; the message names notebook, cell, seconds and remedy."""


class HangError(TimeLimitError):
    """A kernel that neither replied nor computed, in each of the tries; the message names notebook, cell, seconds."""


@dataclass(frozen=True)
class Execution:
    """An executed notebook, the number of kernels that this took, and the most memory of the last one in bytes."""

    notebook: NotebookNode
    tries: int
    peak_bytes: int


def execute(
    notebook: Path,
    copy: Path,
    parameters: Mapping[str, Any],
    cwd: Path,
    limits: Limits,
    tries: int = 2,
    bar: bool = False,
    kernel: str = "python3",
) -> Execution:
    """Run `notebook` with `parameters` in the folder `cwd`, and keep the executed one as `copy`.

    A kernel that neither replies nor computes when a limit is over is ended with all its processes, and the notebook
    starts again with a fresh one, until `tries` kernels have hung (HangError). No other failure is tried again: a cell
    that computes until the limit (TimeLimitError), an exception of a cell (papermill's PapermillExecutionError), and a
    kernel that dies (nbclient's DeadKernelError). Whatever the end, no process of a kernel outlives it.
    """
    options = {"parameters": dict(parameters), "cwd": cwd, "progress_bar": bar, "kernel_name": kernel}
    for number in range(1, tries + 1):
        watch = Watch(copy, limits)
        try:
            return Execution(_one_try(notebook, copy, watch, options), number, watch.processes.peak_bytes)
        except HangError as error:
            if number == tries:
                raise HangError(f"{error} (tries: {tries}, each with a fresh kernel)") from error
    raise ValueError(f"tries: {tries} is not a positive number")


def _one_try(notebook: Path, copy: Path, watch: Watch, options: Mapping[str, Any]) -> NotebookNode:
    try:
        with watch:
            return papermill.execute_notebook(
                notebook,
                copy,
                language="python",
                start_timeout=START_SECONDS,
                iopub_timeout=OUTPUT_SECONDS,
                kernel_manager_class=watch.processes.manager_class(),
                on_cell_start=watch.begin,
                **options,
            )
    except CellTimeoutError as error:
        raise HangError(f"{watch.place()}: its outputs were not complete {OUTPUT_SECONDS} s after its reply") from error
    except RuntimeError as error:  # nbclient has no class of its own for a kernel that does not start
        if watch.over is not None:
            raise watch.over from error
        if watch.cell is None:
            raise HangError(f"{copy}: the kernel did not start within {START_SECONDS} s: {error}") from error
        raise


class Watch:
    """Ends the kernel of one try when a limit is over; afterwards `over` is the error that says which and where."""

    def __init__(self, copy: Path, limits: Limits) -> None:
        self.processes = KernelProcesses()
        self.cell: tuple[int, str] | None = None
        self.over: TimeLimitError | None = None
        self._copy, self._limits = copy, limits
        self._start = self._begun = time.monotonic()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._look, name="notebook limits", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finished.set()
        self._thread.join(timeout=10 * LOOK_SECONDS)
        self.processes.kill()

    def begin(self, cell: NotebookNode, cell_index: int) -> None:
        """nbclient's hook: a cell is about to run."""
        self.processes.sample()
        self.cell, self._begun = (cell_index + 1, cell.source), time.monotonic()

    def place(self) -> str:
        """The executed notebook, and the number and the first line of the cell."""
        if self.cell is None:
            return f"{self._copy}: the start of the kernel"
        number, source = self.cell
        return f"{self._copy}: cell {number} ({source.strip().partition(chr(10))[0][:80]!r})"

    def _look(self) -> None:
        every = min(LOOK_SECONDS, self._limits.cell / 10)
        while not self._finished.wait(every):
            self.processes.sample()
            now = time.monotonic()
            if self.cell is not None and now - self._begun > self._limits.cell:
                self.over = self._error("cell", self._limits.cell)
            elif now - self._start > self._limits.notebook:
                self.over = self._error("notebook", self._limits.notebook)
            if self.over is not None:
                self.processes.kill()
                return

    def _error(self, what: str, seconds: int) -> TimeLimitError:
        limit = f"{seconds} s, the limit of a {what}"
        if self.processes.computing(min(JUDGED_SECONDS, seconds / 2)):
            return TimeLimitError(f"{self.place()} was still computing after {limit}: --{what}-seconds N raises it")
        return HangError(
            f"{self.place()} had no reply after {limit}, and its kernel was idle; if it waits for something slow, "
            f"--{what}-seconds N raises the limit"
        )
