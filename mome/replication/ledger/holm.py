"""Holm's correction over the claims: would a verdict stand if all of them had to hold at once?

A verdict uses 95% intervals. Of some twenty such verdicts one may come out by chance. So each rule decides again
with wider intervals, until its verdict changes: the level there is the verdict's p-value. Holm's step-down method
(1979) then compares the p-values with 5% over the number of verdicts that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from mome.replication.ledger.rule import Decide, Numbers
from mome.replication.notebook.results import Metric, Verdict

LEVEL = 0.05  # of all verdicts together, and of the intervals in the result files
WIDEST = 8.0  # standard errors; a verdict that stands there has a p-value below 1e-14
STEPS = 40  # halvings between the 95% interval and the widest: 1e-11 standard errors
DECIDED: tuple[Verdict, ...] = ("reproduced", "contradicted", "true by construction")  # "mixed" asserts nothing
NORMAL = NormalDist()
USUAL = NORMAL.inv_cdf(1 - LEVEL / 2)  # 1.96 standard errors


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict, the rule's function that gave it, and the numbers that it read."""

    verdict: Verdict
    decide: Decide
    numbers: Numbers


def corrected(judged: Mapping[str, Decided]) -> dict[str, float]:
    """Holm's adjusted p-value of each verdict that uses an interval, by claim; below 0.05 it stands.

    Verdicts that are the same whatever the width of the intervals (counts, bits, designs) are no tests and left out, as
    are "mixed" and "not testable here", which assert nothing.
    """
    single = {claim: p_value(each) for claim, each in judged.items()}
    tested = sorted((p, claim) for claim, p in single.items() if p is not None)
    found, largest = {}, 0.0
    for place, (p, claim) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - place)))  # adjusted values never fall along the order
        found[claim] = largest
    return found


def level_text(level: float) -> str:
    """An adjusted p-value as the table of claims prints it."""
    value = "< 0.0001" if level < 1e-4 else f"= {level:.4f}"
    return f"p {value} by Holm" + ("" if level < LEVEL else ", so it may be chance")


def p_value(each: Decided) -> float | None:
    """The level of the intervals at which the verdict changes; None where it asserts nothing or uses no interval.

    Intervals are widened on either side as those of a normal distribution are.
    """
    if each.verdict not in DECIDED or all(found.ci95 is None for found in each.numbers.values()):
        return None
    if _stands(each, WIDEST) and _stands(each, 1e6):
        return None
    low, high = USUAL, WIDEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _stands(each, middle) else (low, middle)
    return 2 * (1 - NORMAL.cdf(low))


def _stands(each: Decided, errors: float) -> bool:
    return each.decide(widened(each.numbers, errors / USUAL))[0] == each.verdict


def widened(numbers: Numbers, times: float) -> dict[str, Metric]:
    """The numbers with both sides of each interval so many times as long; a share stays within 0 and 1."""
    return {name: _wider(found, times) for name, found in numbers.items()}


def _wider(found: Metric, times: float) -> Metric:
    if found.ci95 is None:
        return found
    low, high = (found.value + times * (end - found.value) for end in found.ci95)
    if found.unit == "share" and found.ci95[0] >= 0:  # a difference of shares may be negative
        low, high = max(0.0, low), min(1.0, high)
    return found.model_copy(update={"ci95": (low, high)})
