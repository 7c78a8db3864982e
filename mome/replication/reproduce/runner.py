"""Running the notebooks: all are checked first, finished ones are skipped, only a complete run is accepted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import write_kernel_spec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from rich.console import Console
from rich.progress import Progress

from mome.files.environment import absolute_places
from mome.files.locking import locked_file
from mome.replication.notebook.parameters import notebook_path
from mome.replication.notebook.results import ResultError, config_hash, read_result
from mome.replication.reproduce.committing import commit
from mome.replication.reproduce.comparing import Compared, compared_with_committed
from mome.replication.reproduce.execution import Execution, TimeLimitError, execute
from mome.replication.reproduce.order import first_ready, longest_first
from mome.replication.reproduce.plans import NotebookPlan, Outcome, accept, finished
from mome.replication.reproduce.reports.last_screen import leave_reports, report
from mome.replication.reproduce.reports.record import run_report
from mome.replication.reproduce.reports.run_sheet import add_to_sheet

KERNEL = "python3"
INTERRUPTED = 130
MOST_JOBS = 4  # a kernel takes up to 5 GiB
ONE_THREAD = ("smoke", "tiny")
# A kernel's own log would break the progress bars; a failing cell is reported through the notebook.
QUIET = ["--IPKernelApp.log_level=CRITICAL"]


class IncompleteRunError(RuntimeError):
    """A notebook that ran to its end without doing all it must; the message says what is missing."""


def run(
    plans: Sequence[NotebookPlan],
    jobs: int | None = None,
    force: bool = False,
    commits: bool = False,
    console: Console | None = None,
    sheet: bool = False,
) -> int:
    """Run what is not finished, print the last screen, return the exit code: 0, 1 if any failed, 130 if interrupted.

    All plans are of one profile. `jobs` notebooks run at a time, never more than there are cores: by default as many,
    at most 4. With `commits`, each accepted run's files replace the committed ones; with `sheet`, the seconds and the
    memory of what ran are put into the committed run sheet.

    Raises:
        BusyError: another process runs the notebooks of this profile in the same work folder.
        OSError: the work folder, or with `commits` the project's, cannot be written.
    """
    console = console or Console()
    jobs = at_a_time(jobs, len(plans), console)
    start = time.monotonic()
    outcomes: list[Outcome] = []
    compared: list[Compared] = []
    code = 0
    folder = plans[0].folder
    busy = "another `mome reproduce` is at work there; wait for its end, or set MOME_HOME to another folder"
    with locked_file(folder / ".lock", f"{folder}: {busy}"):
        try:
            with _kernels_environment({**absolute_places(), **own_threads(plans[0].profile, jobs)}), _own_kernel():
                for outcome in _outcomes(longest_first(plans) if jobs > 1 else plans, jobs, force, console):
                    outcomes.append(outcome)
                    compared += _compared(outcome, commits)
        except KeyboardInterrupt:
            console.print("interrupted: finished notebooks are kept and will be skipped by the next run")
            code = INTERRUPTED
        outcomes.sort(key=lambda outcome: outcome.plan.stem)
        compared.sort(key=lambda row: (row.notebook, row.metric))
        code = code or int(any(outcome.status == "failed" for outcome in outcomes))
        report(outcomes, compared, console, folder / "comparison.csv")
        if outcomes:
            kept = run_report(outcomes, compared, time.monotonic() - start, jobs, code)
            leave_reports(kept, compared, console, folder)
            if sheet:
                console.print(f"run sheet: {add_to_sheet(kept, outcomes)}", markup=False, soft_wrap=True)
    return code


def at_a_time(asked: int | None, notebooks: int, console: Console) -> int:
    """How many notebooks run at a time: `asked`, or by default at most 4, and never more than cores or notebooks."""
    cores = usable_cores()
    if asked is not None and asked > cores:
        console.print(f"--jobs {asked}: {cores} at a time, as there are {cores} cores", markup=False)
    return min(asked or MOST_JOBS, cores, notebooks)


def _compared(outcome: Outcome, commits: bool) -> list[Compared]:
    if outcome.status == "failed":
        return []
    compared = compared_with_committed(outcome.plan)
    if commits:
        commit(outcome.plan)
    return compared


@contextmanager
def _kernels_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change the environment for the kernels meanwhile.

    They run in notebooks/, and must find the places of this process also where those are relative paths.
    """
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _own_kernel() -> Iterator[None]:
    """Make `python3` mean this interpreter, whatever kernels the user or the system has installed under that name."""
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory(prefix="mome-kernel-") as folder:
        write_kernel_spec(Path(folder) / "kernels" / KERNEL, extra_arguments=QUIET)
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (folder, before)))
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def _outcomes(plans: Sequence[NotebookPlan], jobs: int, force: bool, console: Console) -> Iterator[Outcome]:
    if jobs == 1:
        for number, plan in enumerate(plans, start=1):
            console.print(f"[{number}/{len(plans)}] {plan.stem} ({plan.profile})", markup=False)
            yield run_one(plan, force, bar=True)
        return
    spawning = multiprocessing.get_context("spawn")
    with (
        Progress(console=console) as progress,
        ProcessPoolExecutor(jobs, mp_context=spawning, initializer=_prepare_worker) as pool,
    ):
        task = progress.add_task("notebooks", total=len(plans))
        try:
            for future in _completed(pool, plans, jobs, force):
                yield future.result()
                progress.advance(task)
        except (KeyboardInterrupt, GeneratorExit):
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _completed(
    pool: ProcessPoolExecutor, plans: Sequence[NotebookPlan], jobs: int, force: bool
) -> Iterator[Future[Outcome]]:
    """The finished runs as they end; never more than `jobs` at a time, each when it is ready."""
    waiting, running = list(plans), dict[Future[Outcome], NotebookPlan]()
    while waiting or running:
        while len(running) < jobs and (plan := first_ready(waiting, running.values())):
            waiting.remove(plan)
            running[pool.submit(_run_in_worker, plan, force)] = plan
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            del running[future]
            yield future


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_threads(profile: str, jobs: int) -> dict[str, str]:
    """OMP_NUM_THREADS for a kernel, unless the user has set it: one at the small sizes, else a share of the cores.

    Two threads of one kernel wait for one another, spinning, wherever another process has a core: a step took 36 times
    the CPU time on a full machine. One thread is also the same everywhere, to the last bits.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(1 if profile in ONE_THREAD else max(1, usable_cores() // jobs))}


def _prepare_worker() -> None:
    """Ignore Ctrl-C, which the terminal sends to all processes: the main process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process() -> None:
    """Where the main process is killed, its lock is free: the kernel must not go on beside the next run's."""
    main = multiprocessing.parent_process()
    if main is not None:
        while main.is_alive():
            main.join(timeout=60)
        os.kill(os.getpid(), signal.SIGTERM)


def _run_in_worker(plan: NotebookPlan, force: bool) -> Outcome:
    before = signal.signal(signal.SIGTERM, _interrupt_once)
    try:
        return run_one(plan, force, bar=False)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # the kernel is gone by now; a return would make the worker take the next notebook
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt_once(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not break the kernel's shutdown
    raise KeyboardInterrupt


def run_one(plan: NotebookPlan, force: bool, bar: bool) -> Outcome:
    """Run one notebook unless its stamp says that nothing changed since it finished."""
    if not force and finished(plan):
        return Outcome(plan, "skipped", 0.0)
    start = time.monotonic()
    try:
        done = _execute(plan, bar)
    except (PapermillExecutionError, DeadKernelError, TimeLimitError, IncompleteRunError, ResultError) as error:
        plan.kept(".stamp.json").unlink(missing_ok=True)
        return Outcome(plan, "failed", time.monotonic() - start, str(error))
    return Outcome(plan, "ran", time.monotonic() - start, tries=done.tries, memory_gib=done.peak_bytes / 2**30)


def _execute(plan: NotebookPlan, bar: bool) -> Execution:
    """Run, check and accept."""
    copy = plan.kept(".ipynb")
    copy.parent.mkdir(parents=True, exist_ok=True)
    before = _identities(plan)
    notebook = notebook_path(plan.stem)
    done = execute(notebook, copy, plan.parameters, notebook.parent, plan.limits, bar=bar, kernel=KERNEL)
    _check_cells(done.notebook, copy)
    written = [path for path, identity in _identities(plan).items() if identity != before.get(path)]
    if plan.destination.json not in written:
        raise IncompleteRunError(f"{copy}: all cells ran, but {plan.destination.json} was not written")
    _check_result(plan)
    accept(plan, written)
    return done


def _identities(plan: NotebookPlan) -> dict[Path, tuple[int, int]]:
    """Time and inode of each of the result's files: one that is written again has others."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in plan.destination.files()}


def _check_cells(executed: Any, copy: Path) -> None:
    for number, cell in enumerate(executed.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        status = cell.metadata.get("papermill", {}).get("status")
        if cell.execution_count is None or status != "completed":
            raise IncompleteRunError(f"{copy}: cell {number} did not complete (status {status}): {cell.source[:80]!r}")


def _check_result(plan: NotebookPlan) -> None:
    path = plan.destination.json
    result = read_result(path)
    if result.profile != plan.profile:
        raise ResultError(f"{path}: field profile: is {result.profile!r}, but the run's is {plan.profile!r}")
    if result.config_hash != config_hash(plan.parameters):
        raise ResultError(f"{path}: field config: is {result.config}, but the notebook ran with {plan.parameters}")
