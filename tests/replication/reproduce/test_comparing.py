"""Which fresh values count as different from the committed ones, why, and what the last screen says of them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from mome.files.environment import Environment, Hardware
from mome.replication.notebook.results import Destination, Metric, Result, config_hash
from mome.replication.reproduce.comparing import Compared, compare, fewer, write_comparison
from mome.replication.reproduce.limits import LIMITS
from mome.replication.reproduce.plans import NotebookPlan, Outcome
from mome.replication.reproduce.reports.last_screen import report, sums

STEM = "01_fig1_example"


def result(metrics: Mapping[str, Metric], seeds: Sequence[int] = (0,), threads: int = 1, **settings: object) -> Result:
    config = {"profile": "tiny", "seeds": list(seeds), "backbones": ["tiny-llama"], "facts": 128, **settings}
    packages = dict.fromkeys(("torch", "transformers", "peft", "numpy", "mome"), "1.0")
    hardware = Hardware(cpu="any", cores=2, memory_gib=1.0, accelerator="none")
    environment = Environment(
        python="3.11", platform="any", commit="0123456789", dirty=False, hardware=hardware, threads=threads, **packages
    )
    return Result(
        notebook=STEM,
        profile="tiny",
        config=config,
        config_hash=config_hash(config),
        seeds=list(seeds),
        seconds=1.0,
        environment=environment,
        metrics=dict(metrics),
        claims=[],
    )


def value(number: float, unit: str = "share", ends: tuple[float, float] | None = None) -> Metric:
    return Metric(value=number, unit=unit, n=3, ci95=ends)


def verdicts(rows: Sequence[Compared]) -> dict[str, str]:
    return {row.metric: row.verdict for row in rows}


def test_a_value_is_inside_its_interval_or_different_and_values_of_one_side_are_neither() -> None:
    committed = {"a": value(0.5, ends=(0.4, 0.6)), "b": value(0.5, ends=(0.4, 0.6)), "c": value(1.0), "gone": value(1)}
    fresh = {"a": value(0.41), "b": value(0.61), "c": value(1.0 + 1e-9), "new": value(2.0)}
    rows = compare(result(fresh), result(committed))
    expected = {"a": "inside", "b": "different", "c": "inside", "gone": "not measured", "new": "not committed"}
    assert verdicts(rows) == expected
    assert [row.reason for row in rows if row.verdict != "different"] == [""] * 4


@pytest.mark.parametrize(("new", "old"), [("s", "s"), ("ratio of times", "ratio"), ("ratio", "ms"), ("MiB", "MiB")])
def test_times_are_shown_and_never_count_as_different(new: str, old: str) -> None:
    rows = compare(result({"a": value(99.0, new)}), result({"a": value(1.0, old, (0.9, 1.1))}))
    assert [(row.verdict, row.fresh, row.committed, row.reason) for row in rows] == [("timed", 99.0, 1.0, "")]
    assert sums(rows) == "1 times and memory (not judged)"


@pytest.mark.parametrize(
    ("fresh", "committed", "reason"),
    [
        ({}, {"seeds": (0, 1, 2)}, "1 of 3 seeds"),
        ({"facts": 8}, {"seeds": (0, 1)}, "1 of 2 seeds, other facts"),
        ({"seeds": (5,)}, {}, "other seeds"),
        ({"threads": 2}, {}, "other number of threads"),
        ({"threads": 2, "new": True}, {"old": 1}, "other number of threads"),
        ({}, {}, "no reason is known"),
    ],
)
def test_the_likeliest_reason_is_named(fresh: dict, committed: dict, reason: str) -> None:
    (row,) = compare(result({"a": value(2.0)}, **fresh), result({"a": value(1.0)}, **committed))
    assert row.reason == reason
    assert str(row) == f"{STEM} a: 2, committed 1: {reason}"


def test_other_code_is_a_reason_where_the_machine_is_the_same() -> None:
    fresh = result({"a": value(2.0)})
    environment = fresh.environment.model_copy(update={"commit": "abcdef012345"})
    (row,) = compare(fresh, fresh.model_copy(update={"environment": environment, "metrics": {"a": value(1.0)}}))
    assert row.reason == "other code than abcdef0"


def test_a_line_has_as_many_digits_as_tell_the_values_apart() -> None:
    (row,) = compare(result({"a": value(0.12345)}), result({"a": value(0.12346)}))
    assert str(row) == f"{STEM} a: 0.12345, committed 0.12346: no reason is known"


def test_more_seeds_than_committed_are_not_fewer() -> None:
    few, many = ({"seeds": list(range(count)), "backbones": ["a"]} for count in (1, 3))
    assert fewer(few, many) == ["1 of 3 seeds"] and fewer(many, few) == [] == fewer(few, few)


def test_the_file_holds_every_value(tmp_path: Path) -> None:
    rows = compare(result({"a": value(0.5), "t": value(3.0, "s")}), result({"a": value(0.4, ends=(0.3, 0.45))}))
    write_comparison(rows, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["metric"], first["fresh"], first["high"], first["verdict"]) == ("a", "0.5", "0.45", "different")
    assert (second["metric"], second["committed"], second["verdict"]) == ("t", "", "timed")


def test_the_last_screen_names_what_is_different_and_the_file_with_the_rest(tmp_path: Path) -> None:
    names = [f"metric_{number}" for number in range(300)]
    fresh = result({name: value(0.5) for name in names} | {"far": value(9.0), "t": value(3.0, "s")})
    committed = result({name: value(0.5) for name in names} | {"far": value(1.0), "t": value(1.0, "s")}, (0, 1))
    plan = NotebookPlan("tiny", STEM, fresh.config, tmp_path, Destination(STEM, tmp_path, tmp_path), "", LIMITS["tiny"])
    outcomes = [
        Outcome(plan, "ran", 1.5),
        Outcome(plan, "ran", 2.5, tries=2),
        Outcome(plan, "failed", 0.5, "Traceback: boom"),
    ]
    with (tmp_path / "screen").open("w") as file:
        report(outcomes, compare(fresh, committed), Console(file=file, width=100), tmp_path / "all.csv")
    lines = (tmp_path / "screen").read_text().splitlines()
    assert len(lines) < 20
    assert any(line.split() == ["│", STEM, "│", "ran", "│", "1.5", "│", "302", "│"] for line in lines)
    assert any("ran (try 2: the kernel hung)" in line for line in lines)
    assert "300 values inside their interval, 1 different (named below), 1 times and memory (not judged)" in lines
    assert f"{STEM} far: 9, committed 1: 1 of 2 seeds" in lines
    assert "Traceback: boom" in lines
    assert lines[-1] == f"every value, beside the committed one: {tmp_path / 'all.csv'}"
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 303


def test_a_profile_without_committed_results_says_so() -> None:
    assert sums(compare(result({"a": value(1.0), "b": value(2.0)}), None)) == "2 without a committed value"
    assert sums([]) == "no values"
