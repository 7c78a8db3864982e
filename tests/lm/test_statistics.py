"""Paired comparisons against closed forms."""

from math import comb

import numpy
import pytest

from mome.lm import statistics
from mome.lm.statistics import interval, mcnemar, paired_difference, share_interval


@pytest.mark.parametrize(("up", "down"), [(0, 1), (1, 15), (5, 5), (25, 10), (16, 1), (3, 0)])
def test_mcnemar_is_the_sign_test_of_what_changed(up: int, down: int) -> None:
    before = [False] * up + [True] * down + [True, False] * 10
    after = [True] * up + [False] * down + [True, False] * 10
    found = mcnemar(before, after)
    changed = up + down
    tail = sum(comb(changed, k) for k in range(min(up, down) + 1)) / 2**changed
    assert (found.n, found.up, found.down) == (changed + 20, up, down)
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert found.difference.mean == pytest.approx((up - down) / found.n)


def test_without_a_change_there_is_nothing_to_test() -> None:
    found = mcnemar([True, False], [True, False])
    assert (found.p, found.up, found.down) == (1.0, 0, 0)
    assert (found.difference.low, found.difference.high) == (0.0, 0.0)


def test_the_interval_of_a_paired_difference_is_the_normal_one_of_many_items() -> None:
    generator = numpy.random.default_rng(0)
    before = generator.normal(size=2_000)
    after = before + 0.1 + generator.normal(scale=0.5, size=2_000)
    found = paired_difference(before.tolist(), after.tolist(), resamples=4_000)
    differences = after - before
    half = 1.96 * differences.std() / 2_000**0.5
    assert found.mean == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.1 * half)
    assert found.n == 2_000


@pytest.mark.parametrize("at_once", [1, 20, 10_000])
def test_runs_drawn_many_at_a_time_are_those_drawn_one_by_one(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", at_once)
    runs = numpy.random.default_rng(1).normal(size=(4, 7))
    generator = numpy.random.default_rng(3)
    means = [
        numpy.mean([runs[run][generator.integers(7, size=7)].mean() for run in chosen])
        for chosen in generator.integers(4, size=(500, 4))
    ]
    found = interval(runs.tolist(), resamples=500, seed=3)
    assert (found.low, found.high) == pytest.approx(numpy.quantile(means, [0.025, 0.975]), rel=1e-12)


def test_the_pairs_matter() -> None:
    before = [float(n) for n in range(100)]
    found = paired_difference(before, [value + 1 for value in before])
    assert (found.low, found.mean, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("before", "after"), [([], []), ([True], [True, False])])
def test_other_numbers_of_items_are_refused(before: list[bool], after: list[bool]) -> None:
    with pytest.raises(ValueError, match="same items"):
        mcnemar(before, after)


@pytest.mark.parametrize("runs", [[[1.0] * 270 + [0.0] * 30] * 3, [[1.0] * 90 + [0.0] * 10], [[1.0] * 50, [0.0] * 50]])
def test_a_share_has_the_interval_of_drawn_facts(runs: list[list[float]]) -> None:
    fast, slow = share_interval(runs, resamples=20_000), interval(runs, resamples=4_000)
    assert (fast.mean, fast.n) == (slow.mean, slow.n)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.011)  # one fact of 100


def test_shares_without_a_difference_have_the_exact_interval_and_other_values_are_refused() -> None:
    assert share_interval([[1.0] * 300]) == interval([[1.0] * 300])
    with pytest.raises(ValueError, match="0 or 1"):
        share_interval([[0.5, 1.0]])
