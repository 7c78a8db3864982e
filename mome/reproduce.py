"""Runs the notebooks with papermill: all checked first, finished runs skipped, a run accepted only if complete."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import papermill
from ipykernel.kernelspec import write_kernel_spec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mome.parameters import chosen_stems, notebook_path, read_notebook, resolve
from mome.results import (
    Destination,
    Result,
    ResultError,
    config_hash,
    read_result,
    repository_root,
    result_path,
    write_atomically,
)

KERNEL = "python3"
INTERRUPTED = 130
# A kernel's own log would break the progress bars; a failing cell is reported through the notebook.
QUIET = ["--IPKernelApp.log_level=CRITICAL"]


class IncompleteRunError(RuntimeError):
    """A notebook that ran to its end without doing all it must; the message says what is missing."""


@dataclass(frozen=True)
class Plan:
    """One notebook's run with every parameter checked. `inputs` is the hash of all that its result depends on."""

    profile: str
    stem: str
    parameters: dict[str, Any]
    destination: Destination
    inputs: str

    def kept(self, suffix: str) -> Path:
        """The executed copy (`.ipynb`) or the stamp (`.stamp.json`) in the ignored folder `runs/`."""
        return self.destination.root / "runs" / self.profile / f"{self.stem}{suffix}"


@dataclass(frozen=True)
class Outcome:
    """What became of one plan; `error` holds the failing cell's traceback or the reason of refusal."""

    plan: Plan
    status: Literal["ran", "skipped", "failed"]
    seconds: float
    error: str = ""


def make_plans(profile: str, only: Sequence[str], changes: Mapping[str, Any]) -> list[Plan]:
    """Check everything before a kernel starts. Raises ParameterError or ResultError for what is refused."""
    sources = _sources_hash(repository_root())
    return [_plan(profile, stem, resolve(profile, stem, changes), sources) for stem in chosen_stems(only)]


def _plan(profile: str, stem: str, parameters: dict[str, Any], sources: str) -> Plan:
    code = [cell.source for cell in read_notebook(notebook_path(stem)).cells if cell.cell_type == "code"]
    inputs = config_hash({"parameters": parameters, "code": code, "sources": sources})
    return Plan(profile, stem, parameters, Destination.choose(profile, stem, parameters), inputs)


def _sources_hash(root: Path) -> str:
    """Over the code and the shipped facts and backbones: whatever changes a result without changing a notebook."""
    files = [path for folder in ("mome", "kernels") for path in (root / folder).rglob("*.py")]
    files += [
        path for folder in ("facts", "backbones") for path in (root / "data" / folder).rglob("*") if path.is_file()
    ]
    return config_hash({str(path.relative_to(root)): _sha256(path) for path in files})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(plans: Sequence[Plan], jobs: int = 1, force: bool = False, console: Console | None = None) -> int:
    """Run what is not finished, print the summary, and return the exit code: 0, 1 if any failed, 130 if interrupted."""
    console = console or Console()
    outcomes: list[Outcome] = []
    code = 0
    try:
        with _own_kernel():
            for outcome in _outcomes(plans, jobs, force, console):
                outcomes.append(outcome)
    except KeyboardInterrupt:
        console.print("interrupted: finished notebooks are kept and will be skipped by the next run")
        code = INTERRUPTED
    report(outcomes, console)
    return code or int(any(outcome.status == "failed" for outcome in outcomes))


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


def _outcomes(plans: Sequence[Plan], jobs: int, force: bool, console: Console) -> Iterator[Outcome]:
    if jobs == 1:
        for number, plan in enumerate(plans, start=1):
            console.print(f"[{number}/{len(plans)}] {plan.stem} ({plan.profile})", markup=False)
            yield run_one(plan, force, bar=True)
        return
    share = max(1, (os.cpu_count() or 1) // jobs)
    spawning = multiprocessing.get_context("spawn")
    with (
        Progress(console=console) as progress,
        ProcessPoolExecutor(jobs, mp_context=spawning, initializer=_prepare_worker, initargs=(share,)) as pool,
    ):
        task = progress.add_task("notebooks", total=len(plans))
        try:
            for future in as_completed([pool.submit(_run_in_worker, plan, force) for plan in plans]):
                yield future.result()
                progress.advance(task)
        except (KeyboardInterrupt, GeneratorExit):
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _prepare_worker(threads: int) -> None:
    """Share the cores, and leave Ctrl-C, which the terminal sends to all, to the main process."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_in_worker(plan: Plan, force: bool) -> Outcome:
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


def run_one(plan: Plan, force: bool, bar: bool) -> Outcome:
    """Run one notebook unless its stamp says that nothing changed since it finished."""
    if not force and finished(plan):
        return Outcome(plan, "skipped", 0.0)
    start = time.monotonic()
    plan.kept(".stamp.json").unlink(missing_ok=True)
    try:
        _execute(plan, bar)
    except (PapermillExecutionError, DeadKernelError, IncompleteRunError, ResultError) as error:
        return Outcome(plan, "failed", time.monotonic() - start, str(error))
    return Outcome(plan, "ran", time.monotonic() - start)


def finished(plan: Plan) -> bool:
    """True where the stamp of an accepted run fits the plan, and its result and tables are still the same."""
    stamp, result = plan.kept(".stamp.json"), plan.destination.json
    if not (stamp.is_file() and result.is_file()):
        return False
    return json.loads(stamp.read_text("utf-8")) == _stamp(plan)


def _stamp(plan: Plan) -> dict[str, str]:
    result = plan.destination.json
    return {
        "inputs": plan.inputs,
        "result": result.relative_to(plan.destination.root).as_posix(),
        "sha256": _sha256(result),
        "tables": _tables_hash(plan.stem),
    }


def _tables_hash(stem: str) -> str:
    """Over the tables beside tiny's result: long measurements that the notebook reads in every profile, and its own."""
    files = (repository_root() / "data" / "results" / "tiny").glob(f"{stem}_*.csv")
    return config_hash({path.name: _sha256(path) for path in files})


def _execute(plan: Plan, bar: bool) -> None:
    copy = plan.kept(".ipynb")
    copy.parent.mkdir(parents=True, exist_ok=True)
    before = _identity(plan.destination.json)
    notebook = notebook_path(plan.stem)
    executed = papermill.execute_notebook(
        notebook,
        copy,
        parameters=plan.parameters,
        kernel_name=KERNEL,
        language="python",
        progress_bar=bar,
        cwd=notebook.parent,
    )
    _check_cells(executed, copy)
    if _identity(plan.destination.json) == before:
        raise IncompleteRunError(f"{copy}: all cells ran, but {plan.destination.json} was not written")
    _check_result(plan)
    write_atomically(plan.kept(".stamp.json"), json.dumps(_stamp(plan), indent=2, sort_keys=True) + "\n")


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_mtime_ns, path.stat().st_ino) if path.exists() else None


def _check_cells(executed: Any, copy: Path) -> None:
    for number, cell in enumerate(executed.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        status = cell.metadata.get("papermill", {}).get("status")
        if cell.execution_count is None or status != "completed":
            raise IncompleteRunError(f"{copy}: cell {number} did not complete (status {status}): {cell.source[:80]!r}")


def _check_result(plan: Plan) -> None:
    path = plan.destination.json
    result = read_result(path)
    if result.profile != plan.profile:
        raise ResultError(f"{path}: field profile: is {result.profile!r}, but the run's is {plan.profile!r}")
    if result.config_hash != config_hash(plan.parameters):
        raise ResultError(f"{path}: field config: is {result.config}, but the notebook ran with {plan.parameters}")


def report(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print one line a notebook, then the fresh values beside the committed ones, then what failed and how."""
    table = Table("notebook", "status", "seconds", "metrics", title="runs")
    for outcome in outcomes:
        metrics = "" if outcome.status == "failed" else str(len(read_result(outcome.plan.destination.json).metrics))
        table.add_row(outcome.plan.stem, outcome.status, f"{outcome.seconds:.1f}", metrics)
    console.print(table)
    for outcome in outcomes:
        if outcome.status != "failed" and outcome.plan.destination.fresh:
            kept = read_result(result_path(outcome.plan.profile, outcome.plan.stem))
            _compare(read_result(outcome.plan.destination.json), kept, console)
    for outcome in outcomes:
        if outcome.status == "failed":
            console.print(f"FAILED {outcome.plan.stem}", style="bold red", markup=False)
            console.print(Text.from_ansi(outcome.error), soft_wrap=True)


def _compare(fresh: Result, kept: Result, console: Console) -> None:
    """Each fresh metric beside the kept one: inside its 95% interval, or different; unlike settings are named.

    The interval is that of a mean over runs: a single run lies outside more often than one time in twenty.
    """
    table = Table(title=f"{fresh.notebook}: fresh against kept")
    for title in ("metric", "fresh", "kept", "95% interval of the kept mean", ""):
        table.add_column(title, overflow="fold")
    for name in sorted(fresh.metrics):
        table.add_row(name, *_compared(fresh, kept, name))
    console.print(table)
    missing = len(kept.metrics.keys() - fresh.metrics.keys())
    console.print(f"kept metrics that this smaller run does not measure: {missing}", markup=False, highlight=False)
    unlike = [
        f"{name} {fresh.config.get(name)} (kept: {kept.config.get(name)})"
        for name in sorted({*fresh.config, *kept.config})
        if fresh.config.get(name) != kept.config.get(name)
    ]
    console.print(f"settings that differ: {', '.join(unlike)}", markup=False, highlight=False, soft_wrap=True)


def _compared(fresh: Result, kept: Result, name: str) -> tuple[str, str, str, str]:
    value = fresh.metrics[name].value
    if name not in kept.metrics:
        return f"{value:.4g}", "", "", "not kept"
    old = kept.metrics[name]
    interval = "" if old.ci95 is None else f"{old.ci95[0]:.4g} to {old.ci95[1]:.4g}"
    return f"{value:.4g}", f"{old.value:.4g}", interval, "inside" if old.covers(value) else "DIFFERENT"
