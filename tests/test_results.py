"""The result contract: what is refused, and that a lesser run never overwrites a better one."""

import json
import math
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from mome import results
from mome.environment import Hardware
from mome.results import (
    Claim,
    Destination,
    Environment,
    Metric,
    Result,
    ResultError,
    config_hash,
    current_environment,
    read_result,
    repository_root,
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
    assert path == result_path("tiny", STEM)
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
    good = {"id": "C01", "paper": "a", "measured": "b", "verdict": "partly", "why": "c"}
    assert Claim.model_validate(good).verdict == "partly"
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


@pytest.mark.parametrize(
    "lesser", [result, lambda: result((0, 1, 2), ("tiny-llama",)), lambda: result((7,), ("a", "b"))]
)
def test_lesser_run_never_overwrites(lesser: object, root: Path) -> None:
    kept = write_result(result((0, 1, 2), ("tiny-llama", "tiny-mistral")))
    before = kept.read_bytes()
    path = write_result(lesser())  # type: ignore[operator]
    assert path == root / "data/results/tiny/fresh" / f"{STEM}.json"
    assert kept.read_bytes() == before


def test_equal_or_greater_run_replaces() -> None:
    write_result(result((0,)))
    for seeds in ((5,), (0, 1, 2)):
        assert read_result(write_result(result(seeds))).seeds == list(seeds)
        assert read_result(result_path("tiny", STEM)).seeds == list(seeds)


def test_figures_and_tables_follow_the_result(root: Path) -> None:
    assert Destination.choose("tiny", STEM, result().config).figure("png") == root / f"figures/{STEM}.png"
    write_result(result((0, 1)))
    lesser = Destination.choose("tiny", STEM, result().config)
    assert lesser.figure(".pdf") == root / f"figures/fresh/{STEM}.pdf"
    assert lesser.csv == root / f"data/results/tiny/fresh/{STEM}.csv"
    assert lesser.figure("pdf").parent.is_dir()
    assert Destination.choose("smoke", STEM, result().config).figure("png") == root / f"figures/smoke/{STEM}.png"


def test_broken_committed_result_is_not_overwritten() -> None:
    path = write_result(result((0, 1, 2)))
    path.write_text("{}", "utf-8")
    with pytest.raises(ResultError, match=STEM):
        write_result(result())
    assert path.read_text("utf-8") == "{}"


def test_failed_write_leaves_the_old_file_and_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_result(result())
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="disk full"):
        results.write_atomically(path, "half")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_root_is_the_clone_or_the_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository_root() == root.resolve()
    monkeypatch.setenv("MOME_ROOT", str(root / "missing"))
    with pytest.raises(FileNotFoundError, match="MOME_ROOT"):
        repository_root()
    monkeypatch.delenv("MOME_ROOT")
    assert (repository_root() / "mome" / "results.py").is_file()


def test_environment_describes_this_machine() -> None:
    now = current_environment()
    assert now.hardware.cores == os.cpu_count()
    assert now.threads >= 1
    assert now.torch[0].isdigit()
    assert (now.commit, now.dirty) == ("unknown", None)  # the temporary root is no git repository
