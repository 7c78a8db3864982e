"""A bar is met or missed by the whole interval, and nothing is decided where it cannot be."""

from __future__ import annotations

import pytest

from mome.replication.notebook.results import Metric
from mome.replication.paper.fig5_mome_convergence import bars


def share(low: float, high: float, n: int = 900) -> Metric:
    return Metric(value=(low + high) / 2, unit="share", n=n, ci95=(low, high))


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (share(0.991, 1), "met"),
        (share(0.99, 1), "met"),
        (share(0.98, 1), "not decided"),
        (share(0.9, 0.98), "missed"),
        (Metric(value=1.0, unit="share", n=1), "not decided"),
    ],
)
def test_a_bar_is_judged_by_the_whole_interval(found: Metric, outcome: str):
    assert bars.Bar("x", 0.99).outcome({"x": found}) == outcome
    other_way = {"met": "missed", "missed": "met"}.get(outcome, outcome)
    assert bars.Bar("x", 0.99, at_least=False).outcome({"x": found}) == other_way


def test_a_value_without_width_at_the_bar_meets_it_from_both_sides():
    found = {"x": Metric(value=0.4, unit="ratio", n=3, ci95=(0.4, 0.4))}
    assert {bars.Bar("x", 0.4, side).outcome(found) for side in (True, False)} == {"met"}


def test_what_was_not_measured_has_no_number_in_the_table_of_bars():
    table = bars.bar_table({"recognized_10000": share(0.96, 0.99)})
    assert table.loc["recognized_10000", "outcome"] == "met"
    assert table.loc["recognized_10000", "measured"] == "0.975 (0.96 to 0.99)"
    others = table.drop("recognized_10000")
    assert set(others["outcome"]) == {"not measured"} and set(others["measured"]) == {""}


def test_who_keeps_the_answers_is_said_in_words():
    assert bars.who_keeps({}) == "whether threshold or experts give this is not decided"
