"""What a rule of the ledger is made of: the numbers that it reads, and the function that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mome.replication.notebook.results import Metric, Verdict

Numbers = Mapping[str, Metric]  # by the key of the reading
Ruling = tuple[Verdict, str]  # the verdict, and why
Decide = Callable[[Numbers], Ruling]
PARAMETER = "config:"  # starts the name of a number that is a parameter of the run
TESTABLE: tuple[Verdict, ...] = ("reproduced", "mixed", "contradicted")


@dataclass(frozen=True, slots=True)
class Reading:
    """One number behind a verdict: metric `metric` of notebook `stem`, called `label` in the tables.

    A metric "config:NAME" is a parameter of the run: the number, the smallest of a list of numbers, or the length of a
    list of names.
    """

    stem: str
    metric: str
    label: str


@dataclass(frozen=True, slots=True)
class Case:
    """One way to judge a claim: `decide` on the numbers of `needs`, measured at `profile`.

    Without one of `needs` the claim is not testable. `also` is passed to `decide` where it was measured. The book
    prints the numbers of the keys in `headline`, by default all that are needed, and says whose they are: backbones and
    seeds, or `scope` where no run of a model is behind them.
    """

    profile: Literal["tiny", "small"]
    decide: Decide
    needs: Mapping[str, Reading]
    also: Mapping[str, Reading]
    headline: tuple[str, ...]
    scope: str

    @property
    def readings(self) -> dict[str, Reading]:
        """All readings by key, those that the verdict needs first."""
        return {**self.needs, **self.also}


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of one claim: its cases, the real model's first, and the verdicts that it can give.

    "not testable here" is always possible, namely where a number is missing, and need not be listed.
    """

    claim: str
    cases: tuple[Case, ...]
    outcomes: tuple[Verdict, ...] = TESTABLE

    @property
    def stems(self) -> set[str]:
        """The notebooks whose numbers bear on the claim."""
        return {reading.stem for case in self.cases for reading in case.readings.values()}


def case(
    profile: Literal["tiny", "small"],
    decide: Decide,
    needs: Mapping[str, tuple[str, str, str]],
    also: Mapping[str, tuple[str, str, str]] | None = None,
    headline: Sequence[str] = (),
    scope: str = "",
) -> Case:
    """A case whose readings are written as `{key: (notebook, metric, label)}`."""
    return Case(profile, decide, _readings(needs), _readings(also or {}), tuple(headline or needs), scope)


def _readings(given: Mapping[str, tuple[str, str, str]]) -> dict[str, Reading]:
    return {key: Reading(*words) for key, words in given.items()}
