"""Runs that memorize answers, as rows of a table."""

from __future__ import annotations

from dataclasses import replace

import pandas
import pytest

from mome.replication.experiments.real_model import memorizing
from mome.replication.notebook.tables import keep_rows

CELL = memorizing.Cell("tiny-llama", "shipped", 4, "random", "lora", 5e-3, 90)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder of its own, so that no run is taken from an earlier one."""
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "work"))
    return tmp_path


def test_a_row_describes_the_run_and_an_interrupted_table_goes_on(work):
    table = work / "runs.csv"
    (row,) = memorizing.table_rows(table, [CELL])
    losses = [float(text) for text in row["curve"].split()]
    assert row["epochs"] == len(losses)
    assert losses[-1] == pytest.approx(row["final_loss"], rel=1e-4)
    assert losses[-1] <= memorizing.STOP_LOSS
    assert losses[row["epochs_to_0.05"] - 1] <= memorizing.NEAR_ZERO < losses[row["epochs_to_0.05"] - 2]
    assert row["seconds_to_0.05"] == pytest.approx(row["seconds"] * row["epochs_to_0.05"] / row["epochs"])
    assert row["recalled"] == "1111" and row["recall"] == 1
    keep_rows(table, [row], memorizing.KEY, texts=memorizing.TEXTS)
    other = replace(CELL, answers="real")
    (added,) = memorizing.table_rows(table, [CELL, other])
    assert added["answers"] == "real"


def test_random_answers_are_strings_and_shuffled_ones_are_moved(work):
    answers = {
        kind: [fact.answer for fact in memorizing.cell_facts(replace(CELL, facts=16, answers=kind))[0]]
        for kind in ("real", "random", "shuffled")
    }
    assert all(len(answer) == 32 for answer in answers["random"])
    assert sorted(answers["shuffled"]) == sorted(answers["real"])
    assert answers["shuffled"] != answers["real"]


def test_the_mean_loss_of_a_fact_goes_on_with_its_last_value():
    row = {"epochs": 2, "summed": "3 1", "last": "1 0.5"}  # losses of two facts in two epochs: (2, 0.5), (1, 0.5)
    assert memorizing.mean_losses(row, 4).tolist() == [(2 + 1 + 1 + 1) / 4, 0.5]


def test_cells_come_seed_by_seed():
    found = memorizing.cells("tiny-llama", ["shipped"], [4], ["real", "random"], ["lora"], [1e-3], [0, 1])
    assert [(cell.seed, cell.answers) for cell in found] == [(0, "real"), (0, "random"), (1, "real"), (1, "random")]


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(ValueError, match="method 'rag' is not one of lora, mome"):
        memorizing.cells("tiny-llama", ["shipped"], [4], ["real"], ["rag"], [1e-3], [0])


def test_curves_have_a_row_for_each_epoch():
    row = dict(zip(memorizing.KEY, ("tiny-llama", "shipped", 4, "real", "lora", 1e-3, 0), strict=True))
    found = memorizing.curves(pandas.DataFrame([{**row, "curve": "2.5 1 0.25"}]))
    assert found["epoch"].tolist() == [1, 2, 3]
    assert found["loss"].tolist() == [2.5, 1.0, 0.25]
    assert set(found["answers"]) == {"real"}
