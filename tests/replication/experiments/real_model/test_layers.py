"""The layers that a router reads and that are adapted, as rows of a table."""

from pathlib import Path

import pytest

from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.real_model import layers
from mome.replication.notebook.tables import keep_rows


def test_the_default_layers_stand_in_every_comparison_and_once() -> None:
    found = layers.cells("tiny-llama", [0, 1], [1, 2], 4, [90, 91])
    assert [(cell.router_layer, cell.adapted) for cell in found[:3]] == [(0, 2), (1, 2), (1, 1)]
    assert [cell.seed for cell in found] == [90] * 3 + [91] * 3


def test_layers_that_a_backbone_does_not_have_are_refused_before_any_run() -> None:
    with pytest.raises(ValueError, match="router_layer must be below 4 here, got 4"):
        layers.cells("tiny-llama", [4], [2], 4, [90])
    with pytest.raises(ValueError, match=r"layers_to_transform must be from router_layer \(1\) to 3 here"):
        layers.cells("tiny-llama", [1], [4], 4, [90])


def test_a_row_says_what_its_layers_cost_and_an_interrupted_table_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "work"))
    monkeypatch.setattr(layers, "Recipe", lambda **given: Recipe(**given).but(router={"steps": 40}))
    wanted = layers.cells("tiny-llama", [1], [1], 4, [90])
    rows = list(layers.table_rows(None, wanted, questions=50, asked=20))
    both, one = rows
    assert (both["adapted"], one["adapted"]) == (2, 1)
    assert both["recall"] == 1 and both["failed"] == 0
    assert both["numbers_per_fact"] == 2 * one["numbers_per_fact"]
    assert both["router_seconds"] == one["router_seconds"]  # trained once
    for row in rows:
        assert 0 <= row["recognized_0.002"] <= row["recognized_0.01"] <= 1
    keep_rows(tmp_path / "layers.csv", rows[:1], layers.KEY)
    (left,) = layers.table_rows(tmp_path / "layers.csv", wanted, questions=50, asked=20)
    assert left["adapted"] == 1
