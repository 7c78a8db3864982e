"""Paired differences, intervals and bounds of shares."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy import optimize, stats

from mome.lm.statistics import interval


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the second of two models scores on the same `n` questions, with its 95% interval.

    `changed` counts the questions whose score is not the same.
    """

    mean: float
    low: float
    high: float
    n: int
    changed: int

    def within(self, margin: float) -> bool:
        """Equivalent: the whole interval lies inside +-`margin` (stricter than two one-sided tests at 5%)."""
        return -margin <= self.low and self.high <= margin


def paired_difference(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """Second less first, question by question, over one list of scores (0 or 1) for each run.

    The interval holds two: the paired bootstrap over runs and questions of `mome.lm.statistics.interval`, and
    `score_interval` over all questions. Where few answers change a bootstrap is too sure.

    Raises:
        ValueError: the two were not asked the same number of questions in each run.
    """
    pairs = zip(first, second, strict=True)
    runs = [[late - early for early, late in zip(one, other, strict=True)] for one, other in pairs]
    values = numpy.concatenate(runs)
    gained, lost = int((values > 0).sum()), int((values < 0).sum())
    low, high = score_interval(gained, lost, len(values))
    if gained or lost:
        found = interval(runs)
        return Difference(found.mean, min(low, found.low), max(high, found.high), found.n, gained + lost)
    return Difference(0.0, low, high, len(values), 0)


def score_interval(gained: int, lost: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of the paired difference (gained - lost) / count by the score test of Tango (1998).

    It holds every difference that the test does not refuse, and needs no changed answer: without one its ends are
    +-z^2 / (count + z^2).

    Raises:
        ValueError: more answers changed than there are, or none were given.
    """
    if min(gained, lost) < 0 or not 0 < count >= gained + lost:
        raise ValueError(f"{gained} gained and {lost} lost of {count} answers: impossible")
    normal = float(stats.norm.ppf((1 + level) / 2))

    def distance(difference: float) -> float:
        slope = (2 * count - gained + lost) * difference - gained - lost
        inner = slope**2 + 8 * count * lost * difference * (1 - difference)
        least_lost = (math.sqrt(max(inner, 0.0)) - slope) / (4 * count)  # most likely share, given the difference
        variance = max(count * (2 * least_lost + difference * (1 - difference)), sys.float_info.min)
        return (gained - lost - count * difference) / math.sqrt(variance)

    middle, edge = (gained - lost) / count, 1 - 1e-12
    low = optimize.brentq(lambda at: distance(at) - normal, -edge, middle) if lost < count else -1.0
    high = optimize.brentq(lambda at: distance(at) + normal, middle, edge) if gained < count else 1.0
    return float(low), float(high)


def error_bound(errors: int, count: int, level: float = 0.95) -> float:
    """The exact upper bound (Clopper-Pearson, one-sided) of an error rate of which `errors` of `count` were seen.

    Without errors about 3 / count at 95%, the rule of three.

    Raises:
        ValueError: more errors than trials, or none of these.
    """
    if not 0 <= errors <= count or count < 1:
        raise ValueError(f"{errors} errors of {count}: impossible")
    return 1.0 if errors == count else float(stats.beta.ppf(level, errors + 1, count - errors))
