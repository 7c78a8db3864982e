"""The similarity at each moment by hand; each part of the paper's figure 3 holds or fails by a rule."""

from typing import Any

import pandas
import pytest

from mome.replication.notebook.results import Metric
from mome.replication.paper.fig3_entropy.metrics import CERTAIN, CONCENTRATED, EVEN, likeness_table, parts_that_hold

VALUES = {"max_entropy": 8.0, "entropy_low": 1.0, "kind_by_chance": 0.01, "largest_zero": 0.995, "right_zero": 1.0}
LOWER = {"likeness_excess_low": 0.02, "kind_low": 0.5}  # the lower ends of their 95% intervals
MEANS = {"loss": [8.5, 5.0, 0.7, 0.001], "entropy": [7.9, 4.5, 1.0, 0.0]}


def test_similarity_is_a_mean_over_the_facts_of_a_moment_weighted_by_how_often_draws_differ():
    facts = pandas.DataFrame({"moment": ["end"] * 2 + ["start"] * 2, "epoch": [3, 3, 0, 0], "loss": [0, 0, 2, 4]})
    cosines = {"within": [0.9, 0.9, 0.4, 0.8], "between": [0.1, 0.1, 0.4, 0.2]}
    found = likeness_table(facts.assign(differ=[0.5, 0.5, 1.0, 3.0], **cosines))
    assert found["moment"].tolist() == ["end", "start"] and found["epoch"].tolist() == [3, 0]
    assert found["loss"].tolist() == [0.0, 3.0]
    assert found["within"].tolist() == pytest.approx([0.9, (0.4 + 3 * 0.8) / 4])
    assert found["excess"].tolist() == pytest.approx([0.8, 3 * 0.6 / 4])
    for name in ("within", "between", "excess"):
        assert (found[f"{name}_low"] <= found[name]).all() and (found[name] <= found[f"{name}_high"]).all()


def parts(**changes: Any) -> dict[str, bool]:
    """The parts that hold when the numbers above are changed; without changes all do."""
    metrics = {name: Metric(value=changes.get(name, value), unit="x", n=8) for name, value in VALUES.items()}
    for name, low in LOWER.items():
        low = changes.get(name, low)
        metrics[name] = Metric(value=low + 0.1, unit="x", n=8, ci95=(low, low + 0.2))
    means = {name: changes.get(f"mean_{name}", values) for name, values in MEANS.items()}
    return parts_that_hold(pandas.DataFrame(means), metrics)


def test_all_parts_hold_for_the_papers_drawing():
    assert parts() == {EVEN: True, CONCENTRATED: True, CERTAIN: True}


@pytest.mark.parametrize(
    ("failing", "changes"),
    [
        (EVEN, {"mean_entropy": [7.9, 3.9, 1.0, 0.0]}),
        (EVEN, {"mean_loss": [3.9, 3.0, 0.7, 0.001]}),
        (CONCENTRATED, {"entropy_low": 4.0}),
        (CONCENTRATED, {"likeness_excess_low": -0.01}),
        (CONCENTRATED, {"kind_low": 0.009}),
        (CERTAIN, {"largest_zero": 0.98}),
        (CERTAIN, {"right_zero": 0.98}),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_a_part_fails_alone(failing: str, changes: dict[str, Any]):
    assert parts(**changes) == {part: part != failing for part in (EVEN, CONCENTRATED, CERTAIN)}
