"""The rejection threshold (null key): the similarity from which on a question counts as memorized, or as found."""

from __future__ import annotations

import math

import numpy

HIGHEST_SCORE = 0.9999  # below 1, so that a memorized question, word for word, passes in spite of rounding


def least_score(strangers: numpy.ndarray, false_alarms: float) -> float:
    """The rejection threshold with a false-positive rate of at most `false_alarms` on out-of-scope questions (ours).

    `strangers` [C] holds their scores, cosines or shares. The threshold is the next number of the same precision above
    the best score that must not pass, and never above `HIGHEST_SCORE`. Where all may pass it is minus infinity.

    Raises:
        ValueError: there are no scores, one is NaN, or `false_alarms` is not between 0 and 1.
    """
    if not len(strangers):
        raise ValueError("least_score: no questions to set it by")
    if not 0 <= false_alarms <= 1:
        raise ValueError(f"least_score: false_alarms must be a share from 0 to 1, got {false_alarms!r}")
    if numpy.isnan(strangers).any():
        raise ValueError("least_score: a score is NaN")
    ordered = numpy.sort(strangers)[::-1]  # [C], best first
    passing = int(false_alarms * len(ordered))
    if passing == len(ordered):
        return -math.inf
    return min(HIGHEST_SCORE, float(numpy.nextafter(ordered[passing], ordered.dtype.type(math.inf))))
