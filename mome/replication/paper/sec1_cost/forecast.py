"""A power law through measured costs, and how far it can be trusted beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Forecast:
    """cost = level x (facts / center)^slope, fitted to `points` costs; `slope_interval` at 95%.

    `center` and `level` are geometric means; `deviation` is the residuals' (in log10), `squares` the sum of squares of
    the points' log10 distances from the center.
    """

    slope: float
    slope_interval: tuple[float, float]
    points: int
    center: float
    level: float
    deviation: float
    squares: float

    def at(self, facts: ArrayLike) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """(value, low, high) of the mean cost at these numbers of facts, at 95%; wider the farther from the points."""
        distance = numpy.log10(numpy.asarray(facts, dtype=float) / self.center)
        error = self.deviation * numpy.sqrt(1 / self.points + distance**2 / self.squares)
        reach = stats.t.ppf((1 + LEVEL) / 2, self.points - 2) * error
        value = numpy.log10(self.level) + self.slope * distance
        return 10**value, 10 ** (value - reach), 10 ** (value + reach)


def forecast(facts: Sequence[float], costs: Sequence[float]) -> Forecast:
    """Fit by least squares on logarithms.

    Raises:
        ValueError: fewer than 3 points, a single number of facts, or a value that is not positive.
    """
    if len(facts) < 3 or len(set(facts)) < 2 or min(*facts, *costs) <= 0:
        raise ValueError(f"forecast: needs 3 positive points of 2 sizes or more, got {list(facts)}: {list(costs)}")
    x, y = numpy.log10(numpy.asarray(facts, dtype=float)), numpy.log10(numpy.asarray(costs, dtype=float))
    fitted = stats.linregress(x, y)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 2) * fitted.stderr)
    residuals = y - (fitted.intercept + fitted.slope * x)
    return Forecast(
        slope=float(fitted.slope),
        slope_interval=(float(fitted.slope) - reach, float(fitted.slope) + reach),
        points=len(x),
        center=float(10 ** x.mean()),
        level=float(10 ** y.mean()),
        deviation=float(numpy.sqrt((residuals**2).sum() / (len(x) - 2))),
        squares=float(((x - x.mean()) ** 2).sum()),
    )
