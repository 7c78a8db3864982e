"""The run sheet: how long each notebook took, how much memory, and what it needs, from measured runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mome.files.atomic import write_atomically
from mome.files.environment import repository_root
from mome.files.records import Record, Text
from mome.replication.reproduce.order import TAKES_RUNS_OF
from mome.replication.reproduce.plans import Outcome
from mome.replication.reproduce.reports.record import RunReport

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SheetRow(Record):
    """One measured run: seconds by the clock, the kernel's most memory in GiB, `jobs` notebooks at a time."""

    profile: Text
    notebook: Text
    backbones: Text
    seeds: Annotated[int, Field(ge=1)]
    seconds: Positive
    memory_gib: Positive
    jobs: Annotated[int, Field(ge=1)]
    cpu: Text
    cores: Annotated[int, Field(ge=1)]
    commit: Text

    def needs(self) -> str:
        """What the run takes from elsewhere, in words; empty for nothing."""
        fetched = [name for name in self.backbones.split(", ") if not name.startswith("tiny-")]
        needed = [f"`mome fetch {name}`" for name in fetched]
        if source := TAKES_RUNS_OF.get(self.notebook):
            needed.append(f"LoRA runs of {source[:2]}, or trains them")
        return ", ".join(needed)


def sheet_path() -> Path:
    """The committed run sheet, `data/results/run_sheet.csv`."""
    return repository_root() / "data" / "results" / "run_sheet.csv"


def read_sheet() -> list[SheetRow]:
    """The rows in the order of the file; none where there is no file. Raises ValidationError for a damaged one."""
    if not sheet_path().is_file():
        return []
    with sheet_path().open(encoding="utf-8", newline="") as file:
        return [SheetRow.model_validate_strings(row) for row in csv.DictReader(file)]


def add_to_sheet(report: RunReport, outcomes: list[Outcome]) -> Path:
    """Put the notebooks that ran in the place of their older rows; returns the path of the sheet."""
    fresh = [_row(report, outcome) for outcome in outcomes if outcome.status == "ran"]
    rows = {(row.profile, row.notebook): row for row in (*read_sheet(), *fresh)}
    order = sorted(rows.values(), key=lambda row: (row.profile != "tiny", row.profile, row.notebook))
    text = io.StringIO()
    table = csv.DictWriter(text, list(SheetRow.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(row.model_dump() for row in order)
    write_atomically(sheet_path(), text.getvalue())
    return sheet_path()


def _row(report: RunReport, outcome: Outcome) -> SheetRow:
    parameters, hardware = outcome.plan.parameters, report.environment.hardware
    assert outcome.memory_gib is not None  # of a notebook that ran
    return SheetRow(
        profile=report.profile,
        notebook=outcome.plan.stem,
        backbones=", ".join(map(str, parameters["backbones"])),
        seeds=len(parameters["seeds"]),
        seconds=round(outcome.seconds, 1),
        memory_gib=round(outcome.memory_gib, 2),
        jobs=report.jobs,
        cpu=hardware.cpu,
        cores=hardware.cores,
        commit=report.environment.commit,
    )
