"""Means over runs and facts, with 95% intervals.

SciPy's statistics take a second to import, so the functions that need them do it: most processes draw no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy

DRAWN_AT_ONCE = 2**18  # facts: two arrays of 2 MiB, where all draws of a long run would take gigabytes


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` facts (counted over all runs) with its 95% interval."""

    mean: float
    low: float
    high: float
    n: int


def interval(runs: Sequence[Sequence[float]], resamples: int = 2_000, seed: int = 0) -> Interval:
    """The mean of per-fact values over several runs (seeds, backbones), with a 95% bootstrap interval.

    Runs are drawn with replacement, then the facts inside each drawn run (percentile bootstrap); of a single run only
    the facts are drawn. Where all values are equal a bootstrap says nothing: shares of 0 or 1 over facts then get the
    exact binomial (Clopper-Pearson) interval, other values a width of zero.
    """
    groups = [numpy.asarray(run, dtype=float) for run in runs]
    values = numpy.concatenate(groups)
    mean = float(numpy.mean([group.mean() for group in groups]))
    if values.min() == values.max():
        of_facts = mean in (0.0, 1.0) and len(values) > len(groups)
        low, high = _exact_share(values) if of_facts else (mean, mean)
        return Interval(mean, low, high, len(values))
    generator = numpy.random.default_rng(seed)

    from scipy import stats

    single = len(groups) == 1
    result = stats.bootstrap(
        (groups[0] if single else numpy.arange(len(groups)),),
        numpy.mean if single else partial(_resampled_means, groups, generator),
        n_resamples=resamples,
        method="percentile",
        vectorized=True,
        rng=generator,
    ).confidence_interval
    return Interval(mean, min(float(result.low), mean), max(float(result.high), mean), len(values))


def _resampled_means(
    groups: Sequence[numpy.ndarray], generator: numpy.random.Generator, chosen: numpy.ndarray, axis: int = -1
) -> numpy.ndarray:
    """The mean [resamples] over the drawn runs `chosen` [resamples, runs] of the means of facts drawn inside each.

    Runs of one length are drawn many at a time: the generator gives the same numbers as one call for each run.
    """
    lengths = {len(group) for group in groups}
    if len(lengths) > 1:
        drawn = (groups[run][generator.integers(len(groups[run]), size=len(groups[run]))] for run in chosen.flat)
        return numpy.array([group.mean() for group in drawn]).reshape(chosen.shape).mean(axis=axis)
    (length,) = lengths
    runs, means, at_once = numpy.stack(groups), numpy.empty(chosen.size), max(1, DRAWN_AT_ONCE // length)
    for start in range(0, chosen.size, at_once):
        some = chosen.ravel()[start : start + at_once, None]
        means[start : start + at_once] = runs[some, generator.integers(length, size=(len(some), length))].mean(axis=1)
    return means.reshape(chosen.shape).mean(axis=axis)


def _exact_share(values: numpy.ndarray) -> tuple[float, float]:
    from scipy import stats

    share = stats.binomtest(int(values.sum()), len(values)).proportion_ci(0.95, method="exact")
    return float(share.low), float(share.high)


def share_interval(runs: Sequence[Sequence[float]], resamples: int = 2_000, seed: int = 0) -> Interval:
    """As `interval`, for values that are all 0 or 1, without drawing every fact: thousands of facts cost nothing.

    How many of the n facts drawn with replacement from a run are 1 follows the binomial distribution, which is drawn.

    Raises:
        ValueError: a value is neither 0 nor 1.
    """
    groups = [numpy.asarray(run, dtype=float) for run in runs]
    values = numpy.concatenate(groups)
    if not numpy.isin(values, (0, 1)).all():
        raise ValueError("a share is of values that are 0 or 1")
    if values.min() == values.max():
        return interval(runs)
    generator = numpy.random.default_rng(seed)
    shares, counts = numpy.array([group.mean() for group in groups]), numpy.array([len(group) for group in groups])
    chosen = generator.integers(len(groups), size=(resamples, len(groups)))
    drawn = (generator.binomial(counts[chosen], shares[chosen]) / counts[chosen]).mean(axis=1)
    mean, (low, high) = float(shares.mean()), numpy.quantile(drawn, [0.025, 0.975])
    return Interval(mean, min(float(low), mean), max(float(high), mean), len(values))


@dataclass(frozen=True, slots=True)
class Paired:
    """Items that were right before and after, or not: `up` became right, `down` wrong, of `n`.

    `p` is the exact McNemar test's two-sided p-value, `difference` the change of the share of right ones.
    """

    n: int
    up: int
    down: int
    p: float
    difference: Interval


def mcnemar(before: Sequence[bool], after: Sequence[bool], resamples: int = 2_000, seed: int = 0) -> Paired:
    """Compare what was right before with what is right after, item by item (McNemar 1947, exact).

    Under the null hypothesis each item that changed went either way with probability one half. Without changes p is 1.

    Raises:
        ValueError: the two have not as many items, or none.
    """
    from scipy import stats

    early, late = _matched(before, after)
    up, down = int((late > early).sum()), int((late < early).sum())
    p = float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
    return Paired(len(early), up, down, p, paired_difference(before, after, resamples, seed))


def paired_difference(
    before: Sequence[float], after: Sequence[float], resamples: int = 2_000, seed: int = 0
) -> Interval:
    """The mean of (after - before) over items with its 95% percentile bootstrap interval; items are drawn as pairs.

    Where all differences are equal the interval has no width.

    Raises:
        ValueError: the two have not as many items, or none.
    """
    early, late = _matched(before, after)
    differences = late - early
    mean = float(differences.mean())
    if differences.min() == differences.max():
        return Interval(mean, mean, mean, len(differences))
    drawn = numpy.random.default_rng(seed).integers(len(differences), size=(resamples, len(differences)))
    low, high = numpy.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return Interval(mean, min(float(low), mean), max(float(high), mean), len(differences))


def _matched(before: Sequence[float], after: Sequence[float]) -> tuple[numpy.ndarray, numpy.ndarray]:
    early, late = numpy.asarray(before, dtype=float), numpy.asarray(after, dtype=float)
    if early.shape != late.shape or not early.size:
        raise ValueError(f"before and after must be of the same items, got {early.size} and {late.size}")
    return early, late
