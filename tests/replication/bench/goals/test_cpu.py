"""The goals on two CPU cores are computed from the right rows, and what is not there reads as not measured."""

from pathlib import Path

import pandas
import pytest

from mome.replication.bench.goals.cpu import NOT_MEASURED, summary_rows
from mome.replication.bench.tables import BARE, EXPERTS, FLAT, GATHERED, MEMORY, PRODUCT, TOKEN, TUNING


def write(folder: Path, name: str, rows: list[dict]) -> None:
    pandas.DataFrame([{**row, "commit": "abc"} for row in rows]).to_csv(folder / f"cpu_{name}.csv", index=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tables in which each goal has its number beside others that must not be taken; no committed results."""
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    steps = [{"contender": EXPERTS, "over_ours": 1.0}]
    for contender, ratios in {
        GATHERED: (0.8, 2.0),
        "PEFT LoRA r=32, float32": (1.25, 2.5),
        "nn.Embedding(sparse=True) + SparseAdam": (4.0, 2.5),
        "nn.Embedding + Adam": (0.1, 0.1),
    }.items():
        steps += [{"contender": contender, "over_ours": ratio} for ratio in ratios]
    write(tmp_path, "module_step", steps)
    searches = {FLAT: 50_000.0, "faiss flat": 40_000.0, PRODUCT: 190.0}
    rows = [
        {
            "contender": name,
            "experts": experts,
            "queries": queries,
            "k": 32,
            "median_us": time * (experts / 1e6) * queries,
        }
        for name, time in searches.items()
        for experts in (10_000, 1_000_000)
        for queries in (1, 16)
    ]
    write(tmp_path, "lookup", rows)
    whole = [
        {"backbone": name, "stage": TUNING, "contender": MEMORY, "optimizer": kind, "over_lora": ratio}
        for name, kind, ratio in (
            ("smollm2-135m", "adam", 0.15),
            ("smollm2-135m", "adafactor", 0.9),
            ("tiny-llama", "adam", 1.0),
        )
    ]
    whole += [
        {"backbone": name, "stage": TOKEN, "contender": contender, "over_bare": ratio}
        for name, contender, ratio in (
            ("smollm2-135m", MEMORY, 1.02),
            ("smollm2-135m", BARE, 1.0),
            ("tiny-llama", MEMORY, 1.16),
        )
    ]
    write(tmp_path, "end_to_end", whole)
    return tmp_path


def test_each_goal_reads_its_rows(folder: Path) -> None:
    found = [(row["must"], row["measured"], row["met"]) for row in summary_rows(folder)]
    assert found[:8] == [
        ("<= 1x", "1.25x", "no"),  # the slowest of ours over the rival's time
        ("<= 1x", "0.8x", "must"),
        ("<= 0.8x", "0.4x", "aim"),
        ("<= 0.2x", "0.15x", "must"),
        ("<= 1.03x", "1.02x", "must"),
        ("<= 1.03x", "1.16x", "no"),
        ("<= 1.2x", "1.25x", "no"),
        ("<= 0.5 ms", "0.19 ms", "aim"),
    ]
    assert {row["measured_at"] for row in summary_rows(folder)[:8]} == {"abc"}


def test_what_is_not_there_reads_as_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    assert {(row["measured"], row["met"]) for row in summary_rows(tmp_path)} == {(NOT_MEASURED, NOT_MEASURED)}


def test_costs_of_many_facts_are_those_of_committed_results(tmp_path: Path) -> None:
    found = {row["what"]: row["measured"] for row in summary_rows(tmp_path)}
    assert found["10,000 facts, tiny-llama"].endswith(" CPU s")
    assert found["kilobytes a fact at 100% recall, tiny-llama"].endswith(" kB")
    assert found["CPU seconds to 1,000 random facts, tiny-llama, over LoRA"].endswith("x")
