"""The null key's score: from where on a question counts as one that was memorized, or as one that a search finds."""

from __future__ import annotations

import math

import numpy

HIGHEST_SCORE = 0.9999  # a memorized question in its own words passes


def least_score(strangers: numpy.ndarray, false_alarms: float) -> float:
    """The least score that at most the share `false_alarms` of `strangers` [C], cosines or shares, reaches (ours).

    It is the next number of the same precision above the best one that must not pass, and never above `HIGHEST_SCORE`;
    where all may pass it is minus infinity.

    Raises:
        ValueError: there are no scores to set it by, one is NaN, or `false_alarms` is no share.
    """
    if not len(strangers):
        raise ValueError("least_score: no questions to set it by")
    if not 0 <= false_alarms <= 1:
        raise ValueError(f"least_score: false_alarms must be a share from 0 to 1, got {false_alarms!r}")
    if numpy.isnan(strangers).any():
        raise ValueError("least_score: a score is NaN")
    ordered = numpy.sort(strangers)[::-1]
    passing = int(false_alarms * len(ordered))
    if passing == len(ordered):
        return -math.inf
    return min(HIGHEST_SCORE, float(numpy.nextafter(ordered[passing], ordered.dtype.type(math.inf))))
