"""The report of `mome reproduce` for programs: one JSON file with each notebook's outcome, time, memory and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mome.files.atomic import write_atomically
from mome.files.environment import Environment, current_environment
from mome.files.records import Record, Text
from mome.replication.reproduce.comparing import Compared, Verdict
from mome.replication.reproduce.plans import Outcome

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NotebookReport(Record):
    """One notebook's run. Paths are relative to the report; those of files that are not there are None.

    `memory_gib` is the most memory that the kernel and its children took together, looked at once a second; None for
    a notebook that was skipped, because nothing had changed since it ran. `values` counts its values by verdict (see
    `Compared`), and `different` has one line for each that lies outside the committed interval.
    """

    notebook: Text
    status: Literal["ran", "skipped", "failed"]
    seconds: Seconds
    memory_gib: Seconds | None
    tries: Annotated[int, Field(ge=1)]
    error: str
    values: dict[Verdict, int]
    different: list[str]
    executed: str | None
    result: str | None
    figure: str | None


class RunReport(Record):
    """One call of `mome reproduce`. `format` is raised when a field changes its meaning."""

    format: Literal[1] = 1
    profile: Text
    ended: Text
    seconds: Seconds
    jobs: Annotated[int, Field(ge=1)]
    exit_code: int
    environment: Environment
    notebooks: list[NotebookReport]


def run_report(
    outcomes: Sequence[Outcome], compared: Sequence[Compared], seconds: float, jobs: int, code: int
) -> RunReport:
    """The report of a run that ended now, of at least one outcome; `seconds` is its time by the clock."""
    return RunReport(
        profile=outcomes[0].plan.profile,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        jobs=jobs,
        exit_code=code,
        environment=current_environment(),
        notebooks=[_notebook(outcome, compared) for outcome in outcomes],
    )


def _notebook(outcome: Outcome, compared: Sequence[Compared]) -> NotebookReport:
    plan = outcome.plan
    rows = [row for row in compared if row.notebook == plan.stem]
    return NotebookReport(
        notebook=plan.stem,
        status=outcome.status,
        seconds=round(outcome.seconds, 1),
        memory_gib=outcome.memory_gib,
        tries=outcome.tries,
        error=outcome.error,
        values=dict(Counter(row.verdict for row in rows)),
        different=[str(row) for row in rows if row.verdict == "different"],
        executed=_below(plan.folder, plan.kept(".ipynb")),
        result=_below(plan.folder, plan.destination.json),
        figure=_below(plan.folder, plan.destination.figure("png")),
    )


def _below(folder: Path, path: Path) -> str | None:
    return path.relative_to(folder).as_posix() if path.is_file() else None


def write_record(report: RunReport, path: Path) -> None:
    """Write the report as JSON, all or nothing."""
    write_atomically(path, report.model_dump_json(indent=2) + "\n")


def read_record(path: Path) -> RunReport:
    """Read what `write_record` wrote. Raises pydantic's ValidationError for anything else."""
    return RunReport.model_validate_json(path.read_bytes())
