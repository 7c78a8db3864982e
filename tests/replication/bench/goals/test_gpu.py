"""The goals on a GPU are computed from the right rows, and what is not there reads as not measured."""

import pandas
import pytest

from mome.replication.bench.goals.gpu import NOT_MEASURED, summary_rows
from mome.replication.bench.tables import BARE, EXPERTS, FLAT, GATHERED, MEMORY, TOKEN

GRAPH = {"mode": "graph", "cache": "cold"}


def step(contender, optimizer, base, experts, median_us, over_ours=1.0, copy_percent=50.0, **way):
    labels = {"contender": contender, "optimizer": optimizer, "base": base, "experts": experts, **GRAPH, **way}
    return {**labels, "median_us": median_us, "over_ours": over_ours, "copy_percent": copy_percent, "commit": "abc"}


def steps() -> pandas.DataFrame:
    rows = [
        step(EXPERTS, optimizer, base, experts, time, copy_percent=30.0 if optimizer == "adam" else 50.0, cache=cache)
        for optimizer in ("adam", "adafactor")
        for base in ("given", "frozen linear")
        for cache, end in (("cold", 101.0), ("warm", 104.0))
        for experts, time in ((2**10, 100.0), (2**20, end), (2**22, 500.0))
    ]
    rows += [step(EXPERTS, "adam", "given", experts, 900.0 + experts, mode="eager") for experts in (2**10, 2**20)]
    for base, over in (("given", 9.0), ("frozen linear", 1.25)):
        rows.append(step("PEFT LoRA r=32, bfloat16", "adam", base, 2**20, 126.25, over))
        rows.append(step("PEFT LoRA r=32, float32", "adam", base, 2**20, 999.0, 7.0))
        rows += [step(GATHERED, kind, base, 2**20, 1.0, over) for kind, over in (("adam", 3.0), ("adafactor", 5.0))]
    return pandas.DataFrame(rows)


def lookups() -> pandas.DataFrame:
    labels = {"contender": FLAT, "experts": 1_000_000, "commit": "abc", **GRAPH}
    rows = [{**labels, "queries": 8, "copy_percent": 90.0}, {**labels, "queries": 1, "copy_percent": 1.0}]
    return pandas.DataFrame([*rows, {**labels, "mode": "eager", "queries": 8, "copy_percent": 2.0}])


def answers() -> pandas.DataFrame:
    rows = [("prefill", MEMORY, 1.5), (TOKEN, BARE, 1.0), (TOKEN, MEMORY, 1.05)]
    return pandas.DataFrame([{"stage": a, "contender": b, "over_bare": c, "commit": "abc"} for a, b, c in rows])


@pytest.fixture
def folder(tmp_path):
    steps().to_csv(tmp_path / "gpu_module_step.csv", index=False)
    lookups().to_csv(tmp_path / "gpu_lookup.csv", index=False)
    answers().to_csv(tmp_path / "gpu_end_to_end.csv", index=False)
    return tmp_path


def test_each_goal_reads_its_rows(folder):
    found = [(row["must"], row["aim"], row["measured"], row["met"]) for row in summary_rows(folder)]
    assert found == [
        ("<= 5 %", "<= 2 %", "1 %", "aim"),
        ("<= 5 %", "<= 2 %", "4 %", "must"),
        ("<= 1x", "<= 0.7x", "0.8x", "must"),
        (">= 40 %", ">= 65 %", "50 %", "must"),
        (">= 70 %", ">= 85 %", "90 %", "aim"),
        (">= 2x", ">= 4x", "3x", "must"),
        ("<= 3 %", "<= 1 %", "5 %", "no"),
    ]
    assert {row["measured_at"] for row in summary_rows(folder)} == {"abc"}


def test_what_is_not_there_is_not_measured(folder):
    (folder / "gpu_lookup.csv").unlink()
    table = steps()
    table[~table["contender"].str.startswith("PEFT")].to_csv(folder / "gpu_module_step.csv", index=False)
    rows = summary_rows(folder)
    assert [row["met"] == NOT_MEASURED for row in rows] == [False, False, True, False, True, False, False]
    assert all(row["met"] == row["measured"] == NOT_MEASURED for row in summary_rows(folder / "nowhere"))
