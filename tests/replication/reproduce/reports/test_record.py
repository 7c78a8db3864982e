"""The report of a run for programs: what it counts, which files it names, and that it is read back as written."""

import dataclasses
from pathlib import Path

import pytest
from made_up_runs import STEM, comparison, outcome
from pydantic import ValidationError

from mome.replication.reproduce.reports.record import read_record, run_report, write_record


def test_it_counts_values_by_verdict_and_names_the_files_that_are_there(tmp_path: Path) -> None:
    done = outcome(tmp_path)
    done.plan.destination.json.parent.mkdir(parents=True)
    done.plan.destination.json.write_text("{}")
    report = run_report([done], comparison(), seconds=12.34, jobs=2, code=0)
    (notebook,) = report.notebooks
    assert (report.profile, report.seconds, report.jobs, report.exit_code) == ("tiny", 12.3, 2, 0)
    assert notebook.values == {"inside": 2, "different": 1, "timed": 1}
    assert len(notebook.different) == 1 and notebook.different[0].startswith(f"{STEM} far: 9, committed 1")
    assert (notebook.result, notebook.figure, notebook.executed) == (f"results/{STEM}.json", None, None)


def test_values_of_other_notebooks_are_not_counted(tmp_path: Path) -> None:
    other = [dataclasses.replace(row, notebook="02_other") for row in comparison()]
    (notebook,) = run_report([outcome(tmp_path)], other, 1.0, 1, 0).notebooks
    assert notebook.values == {} and notebook.different == []


def test_it_is_read_back_as_written_and_another_format_is_refused(tmp_path: Path) -> None:
    report = run_report([outcome(tmp_path, "failed", error="boom")], [], 1.0, 1, 1)
    write_record(report, tmp_path / "report.json")
    assert read_record(tmp_path / "report.json") == report
    text = (tmp_path / "report.json").read_text()
    (tmp_path / "report.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValidationError, match="format"):
        read_record(tmp_path / "report.json")
