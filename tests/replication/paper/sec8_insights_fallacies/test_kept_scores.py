"""The kept scores of a real model: all or none of them, and only those of the runs that the figure is of."""

from pathlib import Path

import pandas
import pytest

from mome.replication.paper.sec8_insights_fallacies import kept_scores as module
from mome.replication.paper.sec8_insights_fallacies.kept_scores import METHODS, RATES, SCORES, kept_scores, paired


def row(method: str, measure: str, seed: int, items: str, **changed: object) -> dict[str, object]:
    facts, answers = (0, "") if method == "before" else (64, "random")
    cell = {"backbone": "b", "facts": facts, "answers": answers, "method": method, "learning_rate": RATES[method]}
    return {**cell, "seed": seed, "measure": measure, "items": items, **changed}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "damage.csv"
    monkeypatch.setattr(module, "shared_table", lambda name: path)
    return path


def whole() -> list[dict[str, object]]:
    return [
        row(method, measure, seed, f"{seed}10")
        for measure in SCORES.values()
        for method in METHODS.values()
        for seed in ((0,) if method == "before" else (1, 0))
    ]


def test_each_run_has_its_items_by_seed(table: Path) -> None:
    pandas.DataFrame(whole()).to_csv(table, index=False)
    found = kept_scores("b")
    assert found["mome", "quiz_accuracy"] == [[0, 1, 0], [1, 1, 0]]
    assert found["backbone", "general_loss"] == [[0, 1, 0]]
    assert kept_scores("another") == {}


def test_other_rates_answers_and_counts_of_facts_do_not_belong_to_it(table: Path) -> None:
    strange = [{"learning_rate": 1e-3}, {"answers": "real"}, {"facts": 256}]
    rows = whole() + [row("lora", "mmlu", 0, "111", **changed) for changed in strange]
    pandas.DataFrame(rows).to_csv(table, index=False)
    assert kept_scores("b")["lora", "quiz_accuracy"] == [[0, 1, 0], [1, 1, 0]]


def test_without_one_of_the_measures_or_the_table_there_is_nothing(table: Path) -> None:
    assert kept_scores("b") == {}
    rows = [each for each in whole() if (each["method"], each["measure"]) != ("mome", "text_loss")]
    pandas.DataFrame(rows).to_csv(table, index=False)
    assert kept_scores("b") == {}


def test_one_untouched_model_stands_beside_every_run() -> None:
    assert paired([[1.0]], [[0.0], [1.0]]) == ([[1.0], [1.0]], [[0.0], [1.0]])
    with pytest.raises(ValueError, match="2 runs before and 3 after"):
        paired([[1.0]] * 2, [[1.0]] * 3)
