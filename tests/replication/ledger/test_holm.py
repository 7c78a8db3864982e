"""Holm's correction: against p-values by hand, and against the method's own definition."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import pytest

from mome.replication.ledger.comparing import below
from mome.replication.ledger.holm import Decided, corrected, level_text, p_value, widened
from mome.replication.ledger.rule import Numbers, Ruling
from mome.replication.notebook.results import Metric


def small(found: Numbers) -> Ruling:
    return ("reproduced" if below(found["loss"], 1.0) else "mixed"), "as it is"


def judged(errors: float) -> Decided:
    """A loss whose interval's standard error is 0.1, so many of them below the bar of 1."""
    value = 1.0 - 0.1 * errors
    metric = Metric(value=value, unit="nats/token", n=9, ci95=(value - 0.196, value + 0.196))
    return Decided(small({"loss": metric})[0], small, {"loss": metric})


@pytest.mark.parametrize("errors", [2.0, 2.5, 3.3, 5.0])
def test_the_p_value_is_that_of_a_normal_distribution(errors: float) -> None:
    assert p_value(judged(errors)) == pytest.approx(2 * (1 - NormalDist().cdf(errors)), rel=1e-3)


def test_a_verdict_that_asserts_nothing_or_rests_on_no_interval_is_no_test() -> None:
    assert p_value(judged(1.0)) is None  # the interval holds the bar: mixed
    exact = Metric(value=0.5, unit="nats/token", n=9)
    assert p_value(replace(judged(3.0), numbers={"loss": exact})) is None
    assert p_value(replace(judged(3.0), decide=lambda found: ("reproduced", ""))) is None


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_the_next_by_one_less() -> None:
    found = corrected({f"C0{place}": judged(errors) for place, errors in enumerate((2.2, 4.0, 2.5, 1.0))})
    single = {errors: 2 * (1 - NormalDist().cdf(errors)) for errors in (2.2, 2.5, 4.0)}
    assert found.keys() == {"C00", "C01", "C02"}
    assert found["C01"] == pytest.approx(3 * single[4.0], rel=1e-3)
    assert found["C02"] == pytest.approx(2 * single[2.5], rel=1e-3)
    assert found["C00"] == pytest.approx(single[2.2], rel=1e-3)


def test_adjusted_values_never_fall_and_never_pass_1() -> None:
    alike = corrected({f"C{place}": judged(2.0) for place in range(40)})
    assert set(alike.values()) == {1.0}
    order = corrected({"C1": judged(2.5), "C2": judged(2.45), "C3": judged(2.44)})
    assert order["C1"] == order["C2"] == order["C3"]


def test_intervals_grow_on_both_sides_and_shares_stay_shares() -> None:
    share = Metric(value=0.9, unit="share", n=9, ci95=(0.8, 0.95))
    change = Metric(value=-0.1, unit="share", n=9, ci95=(-0.3, 0.1))
    wide = widened({"share": share, "change": change, "count": Metric(value=3, unit="epochs", n=1)}, 4)
    assert wide["share"].ci95 == (pytest.approx(0.5), 1.0)
    assert wide["change"].ci95 == (pytest.approx(-0.9), pytest.approx(0.7))
    assert wide["count"].ci95 is None


def test_a_level_above_five_percent_is_called_what_it_is() -> None:
    assert level_text(1e-9) == "p < 0.0001 by Holm"
    assert level_text(0.02) == "p = 0.0200 by Holm"
    assert level_text(0.2) == "p = 0.2000 by Holm, so it may be chance"
