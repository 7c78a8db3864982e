"""The result contract: what is refused, and where a run puts its files."""

import json
import math
import os
from pathlib import Path

import pandas
import pytest
from pydantic import ValidationError

from mome.files import atomic
from mome.files.environment import Environment, Hardware, current_environment, repository_root
from mome.replication.notebook.results import (
    Claim,
    Destination,
    Metric,
    Result,
    ResultError,
    config_hash,
    read_result,
    result_path,
    write_result,
)

STEM = "01_fig1_example"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    return tmp_path


def environment() -> Environment:
    packages = dict.fromkeys(("torch", "transformers", "peft", "numpy", "mome"), "1.0")
    hardware = Hardware(cpu="a processor", cores=2, memory_gib=4.0, accelerator="none")
    return Environment(
        python="3.11.0", platform="any", commit="unknown", dirty=None, hardware=hardware, threads=2, **packages
    )


def result(seeds: tuple[int, ...] = (0,), backbones: tuple[str, ...] = ("tiny-llama",), **fields: object) -> Result:
    profile = fields.pop("profile", "tiny")
    config = {"profile": profile, "seeds": list(seeds), "backbones": list(backbones), "lr": 0.002}
    values = {
        "notebook": STEM,
        "profile": profile,
        "config": config,
        "config_hash": config_hash(config),
        "seeds": list(seeds),
        "seconds": 1.5,
        "environment": environment(),
        "metrics": {"loss": Metric(value=0.02, unit="nats/token", n=128, ci95=(0.01, 0.03))},
        "claims": [Claim(id="C01", paper="near zero", measured="0.02", verdict="reproduced", why="under 0.05")],
    }
    return Result.model_validate({**values, **fields})


def test_written_result_reads_back_equal() -> None:
    written = result()
    path = write_result(written)
    assert read_result(path) == written


def test_file_is_sorted_indented_and_ends_with_a_newline() -> None:
    text = write_result(result()).read_text("utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "0.5", None])
def test_metric_value_must_be_a_finite_number(value: object) -> None:
    with pytest.raises(ValidationError, match="value"):
        Metric.model_validate({"value": value, "unit": "nats", "n": 3, "ci95": None})


@pytest.mark.parametrize(
    ("interval", "complaint"),
    [((2.0, 1.0), "not ordered"), ((1.5, 2.0), "does not contain"), ((0.0, math.inf), "finite"), ((0.0,), "required")],
)
def test_interval_is_ordered_finite_and_holds_the_value(interval: tuple[float, ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Metric.model_validate({"value": 1.0, "unit": "nats", "n": 3, "ci95": interval})


def test_interval_may_miss_the_value_by_rounding() -> None:
    assert Metric(value=0.1 + 0.2, unit="nats", n=3, ci95=(0.1, 0.3)).ci95 == (0.1, 0.3)


@pytest.mark.parametrize(
    "changes", [{"id": "C1"}, {"id": "D01"}, {"verdict": "proved"}, {"note": "extra"}, {"why": ""}]
)
def test_claim_refuses_bad_fields(changes: dict[str, str]) -> None:
    good = {"id": "C01", "paper": "a", "measured": "b", "verdict": "mixed", "why": "c"}
    assert Claim.model_validate(good).verdict == "mixed"
    with pytest.raises(ValidationError, match=next(iter(changes))):
        Claim.model_validate({**good, **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"config_hash": "0" * 16}, "config_hash"),
        ({"seeds": [1]}, "seeds"),
        ({"notebook": "../evil"}, "notebook"),
        ({"profile": "huge"}, "profile"),
        ({"config": {"profile": "tiny", "seeds": [0]}}, "backbones"),
    ],
)
def test_result_refuses_fields_that_disagree(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Result.model_validate({**dict(result()), **changes})


def test_config_hash_ignores_order_and_refuses_what_json_cannot_hold() -> None:
    assert config_hash({"a": 1, "b": [2.5]}) == config_hash({"b": [2.5], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 1.0})
    for bad in (math.nan, {1, 2}):
        with pytest.raises(ResultError, match="config"):
            config_hash({"a": bad})


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"lr": 0.002', '"lr": 0.003', "config_hash"),
        ('"n": 128', '"n": "128"', "metrics.loss.n"),
        ('"seconds": 1.5', '"seconds": NaN', "seconds"),
        ('"verdict": "reproduced"', '"verdict": "yes"', "claims.0.verdict"),
        ('"notebook": "01_fig1_example"', '"notebook": "02_other"', "notebook"),
    ],
)
def test_reading_an_edited_file_names_file_and_field(old: str, new: str, field: str) -> None:
    path = write_result(result())
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ResultError, match=field) as caught:
        read_result(path)
    assert str(path) in str(caught.value)


def test_a_run_writes_to_the_work_folder_and_never_where_the_committed_result_lies(root: Path) -> None:
    committed = result_path("tiny", STEM)
    committed.parent.mkdir(parents=True)
    committed.write_text("{}", "utf-8")
    for seeds in ((0,), (0, 1, 2)):
        assert write_result(result(seeds)) == root / "runs/tiny/results" / f"{STEM}.json"
    assert committed.read_text("utf-8") == "{}"


def test_figures_and_tables_follow_the_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_HOME", str(root / "elsewhere"))
    fresh = Destination.fresh("smoke", STEM)
    assert fresh.figure(".pdf") == root / f"elsewhere/smoke/figures/{STEM}.pdf"
    assert fresh.table() == root / f"elsewhere/smoke/results/{STEM}.csv"
    assert fresh.table("steps") == root / f"elsewhere/smoke/results/{STEM}_steps.csv"
    assert fresh.place(f"{STEM}.png") == fresh.figure("png") and fresh.place(fresh.json.name) == fresh.json
    committed = Destination.committed(STEM)
    assert committed.json == result_path("tiny", STEM) and committed.figure("png") == root / f"figures/{STEM}.png"
    assert not (root / "elsewhere").exists()


def test_a_table_is_written_whole_with_six_digits() -> None:
    fresh = Destination.fresh("tiny", STEM)
    path = fresh.save_table(pandas.DataFrame({"epoch": [1, 2], "loss": [1 / 3, 2.0]}), "curves")
    assert path.read_text("utf-8") == "epoch,loss\n1,0.333333\n2,2\n"
    fresh.save_table(pandas.DataFrame({"epoch": [3]}))
    assert [file.name for file in fresh.files()] == [f"{STEM}.csv", f"{STEM}_curves.csv"]


@pytest.mark.parametrize(
    ("unit", "timed"),
    [
        *((unit, True) for unit in ("s", "ms", "h", "kJ", "MiB", "tokens/s", "s an edit", "ms/token")),
        *((unit, True) for unit in ("ratio of times", "power of time", "ratio of memory", "MiB of process memory")),
        *((unit, False) for unit in ("share", "ratio", "nats/token", "times the first epoch", "experts", "B", "flop")),
        *((unit, False) for unit in ("standard errors", "Spearman's rho", "power", "bits", "seeds", "bytes")),
    ],
)
def test_the_unit_says_whether_a_metric_is_timed(unit: str, timed: bool) -> None:
    assert Metric(value=1.0, unit=unit, n=1).timed is timed


def test_failed_write_leaves_the_old_file_and_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_result(result())
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="disk full"):
        atomic.write_atomically(path, "half")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_root_is_the_clone_or_the_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository_root() == root.resolve()
    monkeypatch.setenv("MOME_ROOT", str(root / "missing"))
    with pytest.raises(FileNotFoundError, match="MOME_ROOT"):
        repository_root()
    monkeypatch.delenv("MOME_ROOT")
    assert (repository_root() / "mome" / "py.typed").is_file()


def test_environment_describes_this_machine() -> None:
    now = current_environment()
    assert now.hardware.cores == os.cpu_count()
    assert now.threads >= 1
    assert now.torch[0].isdigit()
    assert (now.commit, now.dirty) == ("unknown", None)  # the temporary root is no git repository


def test_a_git_that_does_not_answer_is_not_waited_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "bin" / "git"
    silent.parent.mkdir()
    silent.write_text("#!/bin/sh\nexec sleep 99\n", "utf-8")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{silent.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("mome.files.environment.GIT_SECONDS", 0.2)
    assert current_environment().commit == "unknown"
