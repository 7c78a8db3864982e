"""What a LoRA run damages, and when, as rows of a table. The measures themselves are tested beside `reduced`."""

from __future__ import annotations

from itertools import islice

import pandas
import pytest

from mome.replication.experiments.real_model import checkpoints
from mome.replication.experiments.real_model.damaged import untouched
from mome.replication.experiments.real_model.memorizing import Cell, run_row
from mome.replication.notebook.tables import keep_rows

CELL = Cell("tiny-llama", "shipped", 4, "random", "lora", 5e-3, 90)
EPOCHS = (1, 2, 99)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A work folder of its own, and two measures that count how often a model is asked: one by its sum of weights."""
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "work"))
    calls = []

    def measured(backbone, items, facts, states):
        calls.append(len(facts))
        total = sum(float(each.detach().sum()) for each in backbone.model.parameters() if each.requires_grad)
        return {"mc1": pandas.Series([total, 1.0]), "kl": pandas.Series([0.0, 1.0])}, {}

    monkeypatch.setattr(checkpoints, "measured", measured)
    monkeypatch.setattr(checkpoints.Probe, "items", [])
    monkeypatch.setattr(checkpoints.Probe, "states", {})
    return calls


def rows(table, wanted=(CELL,)):
    return checkpoints.table_rows(table, "tiny-llama", wanted, EPOCHS)


def keep(table, found) -> None:
    for row in found:
        keep_rows(table, [row], checkpoints.KEY, texts=checkpoints.TEXTS)


def test_the_untouched_backbone_comes_first_and_every_checkpoint_is_another_model(asked, tmp_path):
    table = pandas.DataFrame(rows(None))
    whole = run_row(CELL)
    assert table["method"].tolist()[:2] == ["before", "before"] and table["epoch"].tolist()[:2] == [0, 0]
    after = table[table["method"] == "lora"]
    assert after["epoch"].unique().tolist() == [1, 2, whole["epochs"]]
    assert set(after["epochs"]) == {whole["epochs"]}  # the run is that of `mome table memorizing`
    losses = after.drop_duplicates("epoch")["loss"].tolist()
    curve = whole["curve"].split()
    assert [f"{loss:.5g}" for loss in losses] == [curve[0], curve[1], curve[-1]]
    assert after.loc[after["measure"] == "mc1", "items"].nunique() == 3
    assert asked == [0, 4, 4, 4]


def test_a_table_that_was_cut_short_goes_on_with_the_checkpoint_that_is_not_whole(asked, tmp_path):
    path = tmp_path / "checkpoints.csv"
    keep(path, islice(rows(path), 5))  # the untouched backbone, the first checkpoint, half of the second
    assert checkpoints.measured_epochs(path)[untouched("tiny-llama")] == {0: 0}
    asked.clear()
    keep(path, rows(path))
    assert asked == [4, 4]
    assert not list(rows(path))
    assert len(pandas.read_csv(path)) == 8


def test_before_stands_for_the_untouched_backbone_alone():
    assert checkpoints.cells("tiny-llama", "shipped", 4, ["before"], 2e-4, [0]) == []
    found = checkpoints.cells("tiny-llama", "shipped", 4, ["random", "real"], 2e-4, [0, 1])
    assert [(cell.seed, cell.answers) for cell in found] == [(0, "random"), (0, "real"), (1, "random"), (1, "real")]
    with pytest.raises(ValueError, match="--answers shuffled: must be one of random, real, before"):
        checkpoints.cells("tiny-llama", "shipped", 4, ["shuffled"], 2e-4, [0])
