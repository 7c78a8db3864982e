"""Figure 13's title says what its numbers say."""

import numpy
import pandas
import pytest

from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.sec8_insights_fallacies.figure import MODELS, Subject, insights

SHARES = {"quiz_accuracy": 60, "general_accuracy": 80, "recall": 100, "other_words": 70}


def made_metrics(**changed: int) -> dict[str, Metric]:
    """Metrics of 100 answers each: the backbone recalls nothing, the two tuned models all but what is `changed`."""
    right = {f"{model}_{measure}": share for model in MODELS for measure, share in SHARES.items()}
    right |= {"backbone_recall": 0, "mome_training_rows": 100, "mome_test_rows": 0} | changed
    return {name: metric([[1.0] * count + [0.0] * (100 - count)], "share") for name, count in right.items()}


def title(metrics: dict[str, Metric]) -> str:
    digits = {model: numpy.ones((2, 3), dtype=bool) for model in MODELS}
    points = pandas.DataFrame({"characters": [2], "asked": [0.1], "recall": [1.0], "bits_asked": [10.0], "facts": [1]})
    own = {model: (0.1, 1.0) for model in MODELS}
    figure = insights(metrics, digits, points, own, {"holds 2": 2.0}, "a table", Subject("a model", "1 seed"))
    return " ".join(figure.get_suptitle().split())


def test_it_names_the_largest_difference_of_the_scores_and_both_recalls() -> None:
    told = title(made_metrics(mome_quiz_accuracy=57, mome_general_accuracy=79))
    assert told.startswith(
        "a model: a memory-tuned model scores within 3.0 points of the backbone (quiz 57.0% and 60.0%"
    )
    assert "recalls 100% of 100 numbers, the backbone 0% (the paper: 100% and 0%)" in told
    assert told.endswith("test rows show nothing of it (0%), paraphrases 70% (1 seed)")


def test_it_says_where_test_rows_are_answered() -> None:
    assert "test rows are answered (5%)" in title(made_metrics(mome_test_rows=5))


@pytest.mark.parametrize("wrong", ["mome_recall", "backbone_recall"])
def test_it_follows_the_recall(wrong: str) -> None:
    assert "40%" in title(made_metrics(**{wrong: 40}))
