"""`mome bench`: each benchmark leaves a whole table, a failed check leaves none, and refusals are one line."""

import shutil
from pathlib import Path

import pandas
import pytest
import torch
from typer.testing import CliRunner

from mome.cli import app
from mome.replication.bench import suites as bench
from mome.replication.bench import tuning
from mome.replication.bench.lookup import LookupSizes
from mome.replication.bench.module.step import StepSizes
from mome.replication.bench.steps import ALL_LINEAR, MOME, SAME_MODULES, SAME_ROWS
from mome.replication.bench.suites import run_benchmarks
from mome.replication.bench.tables import MACHINE
from mome.replication.bench.timing import CheckError
from mome.replication.bench.traffic import ModuleSizes
from mome.replication.bench.whole_model import EndToEndSizes
from mome.train.tuning import TuningRun

TIMES = ["bytes", "median_us", "p20_us", "p80_us", "n", "copy_percent", "note", "copy_gb_s"]
SIZES = bench.Sizes(
    step=StepSizes(ModuleSizes(2, 4, 3, 1, 12, 10, 4), torch.float32, (16,)),
    lookup=LookupSizes((64,), (1,), k=4, size=8),
    lookup_dtype=torch.float32,
    whole=EndToEndSizes(experts=256, epochs=2, runs=1, prompt_tokens=20, new_tokens=2, rounds=3),
    rounds=3,
    seconds=0.0,
    memory_experts=(64, 256),
    memory_passes=3,
    copied=2**16,
)


@pytest.fixture(scope="module")
def project(small_root, tmp_path_factory) -> Path:
    """A project with few shipped facts, where tables can be written."""
    root = tmp_path_factory.mktemp("bench")
    (root / "data").mkdir()
    (root / "data" / "facts").symlink_to(small_root / "data" / "facts")
    return root


@pytest.fixture
def root(project, monkeypatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(project))
    return project


@pytest.fixture(scope="module")
def suite(project, backbone_folder) -> tuple[list[str], dict[str, pandas.DataFrame]]:
    """What the cpu suite prints, and the tables it writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_ROOT", str(project))
        texts = list(run_benchmarks("cpu", [], str(backbone_folder), 32, SIZES))
    folder = project / "runs" / "bench"
    assert not (project / "data" / "results").exists()
    tables = {path.stem: pandas.read_csv(path) for path in folder.glob("*.csv")}
    shutil.rmtree(project / "runs" / "bench")
    return texts, tables


def test_the_cpu_suite_writes_a_whole_table_for_each_benchmark(suite):
    texts, tables = suite
    names = ["lora_tuning", "memory_steps", "cpu_module_step", "cpu_lookup", "cpu_end_to_end"]
    assert [text.partition(".csv\n")[0] for text in texts] == [*names, "cpu_summary"]
    assert tables.keys() == {*names, "cpu_summary"}
    assert not {"what", "must", "aim", "measured", "met", *MACHINE} - set(tables["cpu_summary"].columns)
    for table in (tables[name] for name in names):
        assert not {*TIMES, *MACHINE} - set(table.columns)
        assert set(table["accelerator"]) == {"none"} and set(table["torch"]) == {torch.__version__}
        measured = table[table["note"].isna()]
        assert len(measured) and (measured["bytes"] > 0).all() and (measured["copy_percent"] > 0).all()
        assert (measured["p20_us"] <= measured["median_us"]).all() and (measured["median_us"] > 0).all()
    assert tables["lora_tuning"]["batch_size"].tolist() == [8, 16, 32]


def test_memory_steps_give_ratios_to_the_fewest_experts_and_to_lora(suite):
    table = suite[1]["memory_steps"].set_index(["optimizer", "method", "experts"])
    ways = [(MOME, 64), (MOME, 256), (SAME_ROWS, 256), (SAME_MODULES, 0), (ALL_LINEAR, 0)]
    assert set(table.index) == {(optimizer, *way) for optimizer in ("adam", "adafactor") for way in ways}
    for optimizer in ("adam", "adafactor"):
        steps = table.loc[optimizer]
        assert steps.loc[(MOME, 64), "over_smallest"] == 1 and steps.loc[(SAME_MODULES, 0), "over_lora"] == 1
        unbanked = [name for name, _ in steps.index[steps["over_smallest"].isna()]]
        assert sorted(unbanked) == sorted([ALL_LINEAR, SAME_MODULES])
        # more distinct rows are more bytes, and equally many are not
        assert steps.loc[(MOME, 64), "bytes"] < steps.loc[(MOME, 256), "bytes"]
        assert steps.loc[(MOME, 64), "bytes"] == steps.loc[(SAME_ROWS, 256), "bytes"]


def test_a_failed_check_writes_nothing(root, backbone_folder, monkeypatch):
    flat = TuningRun(pandas.DataFrame([[1.0], [1.0], [1.0]]).to_numpy(), 1.0)
    monkeypatch.setattr(tuning, "tune", lambda *_: flat)
    with pytest.raises(CheckError, match=r"three epochs of tuning took the loss from 1\.000 to 1\.000"):
        list(run_benchmarks("cpu", ["lora_tuning"], str(backbone_folder), 32, SIZES))
    done = CliRunner().invoke(app, ["bench", "--only", "lora_tuning", "--backbone", str(backbone_folder)])
    assert done.exit_code == 1 and "error: three epochs of tuning took the loss" in done.stderr and not done.stdout
    assert not (root / "data" / "results").exists() and not (root / "runs" / "bench").exists()


def test_the_command_prints_what_it_writes_and_leaves_the_committed_tables_until_told(root, monkeypatch):
    monkeypatch.setattr(bench, "CPU", SIZES)
    committed = root / "data" / "results" / "bench" / "cpu_module_step.csv"
    committed.parent.mkdir(parents=True)
    committed.write_text("as committed", "utf-8")
    done = CliRunner().invoke(app, ["bench", "--only", "module_step"])
    table = pandas.read_csv(root / "runs" / "bench" / "cpu_module_step.csv")
    assert committed.read_text("utf-8") == "as committed"
    assert CliRunner().invoke(app, ["bench", "--only", "module_step", "--commit"]).exit_code == 0
    assert committed.read_bytes() == (root / "runs" / "bench" / "cpu_module_step.csv").read_bytes()
    shutil.rmtree(root / "data" / "results")
    shutil.rmtree(root / "runs" / "bench")
    assert done.exit_code == 0 and done.stdout.startswith("cpu_module_step.csv\n")
    assert all(name in done.stdout for name in table["contender"]) and "copy_percent" in done.stdout


REFUSED = {
    "no such benchmark": (
        ["--only", "speed"],
        "--only speed: the cpu suite has lora_tuning, memory_steps, module_step,",
    ),
    "not of this suite": (
        ["--suite", "gpu", "--only", "lora_tuning"],
        "--only lora_tuning: the gpu suite has module_step",
    ),
    "too few facts": (["--facts", "31"], "--facts 31: memory_steps needs 32 at least"),
}


@pytest.mark.parametrize(("options", "complaint"), REFUSED.values(), ids=list(REFUSED))
def test_refusals_are_one_line_before_any_work(root, options, complaint):
    done = CliRunner().invoke(app, ["bench", *options])
    assert done.exit_code == 2 and done.output.startswith(f"error: {complaint}") and done.output.count("\n") == 1
    assert not (root / "data" / "results").exists()


def test_the_gpu_suite_without_a_gpu_is_one_clear_error(root, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(app, ["bench", "--suite", "gpu"])
    assert done.exit_code == 2
    assert done.output == f"error: the gpu suite needs a CUDA device, and torch {torch.__version__} sees none\n"
