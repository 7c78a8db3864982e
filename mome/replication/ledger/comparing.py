"""Comparisons of a measured number with a bar, by its whole 95% interval; without an interval, by its value."""

from __future__ import annotations

from mome.replication.notebook.results import Metric


def above(found: Metric, bar: float) -> bool:
    """Whether the whole interval lies above `bar`, or at it."""
    return found.bounds[0] >= bar


def below(found: Metric, bar: float) -> bool:
    """Whether the whole interval lies below `bar`, or at it."""
    return found.bounds[1] <= bar


def inside(found: Metric, low: float, high: float) -> bool:
    """Whether the whole interval lies between `low` and `high`: how "unchanged" is shown, with the margin in a rule."""
    return above(found, low) and below(found, high)


def higher(one: Metric, other: Metric, by: float = 0.0) -> bool:
    """Whether the interval of `one` lies wholly above that of `other`, and its value by more than `by`."""
    return one.bounds[0] > other.bounds[1] and one.value - other.value > by


def side(found: Metric, bar: float) -> str:
    """Where the whole interval lies: "above" or "below" `bar`, "at" it without width; "" where it is on both sides.

    A number without an interval decides nothing here: "". An end that equals the bar is on either side.
    """
    if found.ci95 is None:
        return ""
    low, high = found.ci95
    if low == high == bar:
        return "at"
    return "above" if low >= bar else "below" if high <= bar else ""


def yes_or_no(holds: bool) -> str:
    """The word for a half of a claim that holds or does not, as reasons print it."""
    return "yes" if holds else "no"
