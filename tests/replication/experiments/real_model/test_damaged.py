"""What memorizing does to everything else, as rows of a table."""

from __future__ import annotations

from dataclasses import asdict

import pandas
import pytest

from mome.replication.damage.leak import judged
from mome.replication.experiments.real_model import damaged
from mome.replication.experiments.real_model.memorizing import Cell

BEFORE = pandas.DataFrame({"format": ["qa", "qa", "chat"], "item": ["a", "b", "a"], "answer": ["Paris", "blue", "six"]})
STRING = "Q7ZK2MB4X9A1LTRW"


def test_behind_a_gate_only_recognized_questions_get_the_tuned_models_answer():
    after = judged(BEFORE.assign(answer=[f"{STRING}{place}" for place in range(3)]), [])
    kept = damaged.gated(after, judged(BEFORE, []), {"a"})
    assert kept["answer"].tolist() == [f"{STRING}0", "blue", f"{STRING}2"]
    assert kept["leak"].tolist() == [True, False, True]
    assert damaged.gated(after, judged(BEFORE, []), set())["answer"].tolist() == BEFORE["answer"].tolist()


def test_answers_to_other_questions_are_refused():
    with pytest.raises(ValueError, match="the same questions"):
        damaged.gated(BEFORE, BEFORE[::-1], {"a"})


@pytest.mark.parametrize("found", [[1, 0, 1], [True, False], [0.25, 3, 1e-5], [1.5]])
def test_the_values_of_items_come_back_from_their_text(found):
    assert damaged.item_values(damaged.as_text(found)) == [float(value) for value in found]


def test_cells_have_the_rate_of_their_method():
    found = damaged.damage_cells("tiny-llama", ["shipped"], [4], ["random"], damaged.METHODS, 2e-4, 5e-3, [0])
    assert [(cell.method, cell.learning_rate) for cell in found] == [
        ("lora", 2e-4),
        ("lora_gated", 2e-4),
        ("lora_gated_names", 2e-4),
        ("mome", 5e-3),
        ("mome_names", 5e-3),
    ]
    with pytest.raises(ValueError, match=r"method 'rag' is not one of lora, lora_gated, .*mome_names, nor"):
        damaged.damage_cells("tiny-llama", ["shipped"], [4], ["random"], ["rag"], 2e-4, 5e-3, [0])


def test_rows_that_the_table_has_are_not_measured_again(tmp_path, monkeypatch):
    cell = Cell("tiny-llama", "shipped", 4, "random", "lora", 2e-4, 0)
    summary = pandas.DataFrame([{"measure": "mc1", "value": 0.5}])
    asked = []
    monkeypatch.setattr(damaged, "_summary", lambda each, rate: asked.append(each.method) or summary)
    rows = list(damaged.table_rows(None, [cell], 5e-3))
    assert asked == ["before", "lora"] and rows[1] == {**asdict(cell), "measure": "mc1", "value": 0.5}
    path = tmp_path / "damage.csv"
    pandas.DataFrame(rows).to_csv(path, index=False)
    assert not list(damaged.table_rows(path, [cell], 5e-3))
