"""The run sheet: a run replaces its own row, what was skipped changes nothing, and needs are said in words."""

from pathlib import Path

import pytest
from made_up_runs import STEM, outcome
from pydantic import ValidationError

from mome.replication.reproduce.plans import Outcome
from mome.replication.reproduce.reports.record import run_report
from mome.replication.reproduce.reports.run_sheet import add_to_sheet, read_sheet, sheet_path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    (tmp_path / "data" / "results").mkdir(parents=True)
    return tmp_path


def add(done: Outcome) -> None:
    add_to_sheet(run_report([done], [], 100.0, 2, 0), [done])


def test_a_run_replaces_its_own_row(project: Path) -> None:
    assert read_sheet() == []
    add(outcome(project))
    (row,) = read_sheet()
    assert (row.profile, row.notebook, row.seeds, row.seconds, row.memory_gib, row.jobs) == (
        "tiny", STEM, 1, 61.5, 1.25, 2,
    )  # fmt: skip
    add(outcome(project))
    assert read_sheet() == [row]


def test_what_was_skipped_or_failed_changes_nothing(project: Path) -> None:
    add(outcome(project))
    before = sheet_path().read_text()
    add(outcome(project, "skipped"))
    add(outcome(project, "failed"))
    assert sheet_path().read_text() == before


def test_needs_are_a_fetched_backbone_and_runs_of_another_notebook(project: Path) -> None:
    add(outcome(project))
    (row,) = read_sheet()
    assert row.needs() == "LoRA runs of 01, or trains them"
    assert (
        row.model_copy(update={"backbones": "smollm2-135m", "notebook": "00_a"}).needs() == "`mome fetch smollm2-135m`"
    )


def test_a_damaged_row_is_refused(project: Path) -> None:
    add(outcome(project))
    sheet_path().write_text(sheet_path().read_text().replace("61.5", "-1"))
    with pytest.raises(ValidationError, match="seconds"):
        read_sheet()
