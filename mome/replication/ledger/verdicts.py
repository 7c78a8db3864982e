"""The verdict on each claim from the numbers that are there: which evidence is best, and what its rule says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mome.replication.ledger.rule import PARAMETER, Case, Reading, Rule
from mome.replication.ledger.rules import RULES
from mome.replication.notebook.claims import read_claims
from mome.replication.notebook.results import Claim, Metric, Result, Verdict

UNTOUCHED = ("_before", "backbone_")  # in the name of a number of the untouched backbone
ENOUGH = 3  # seeds with which the real model's numbers are preferred to those of the small backbones
BARE_UNITS = {"nats/token", "nats", "bits", "nats/answer"}  # those that a label does not say already


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim's verdict, why, and the evidence: each reading of the case that decided, with its metric."""

    claim: str
    verdict: Verdict
    why: str
    case: Case
    numbers: dict[str, Metric] = field(default_factory=dict)
    whose: str = ""

    @property
    def measured(self) -> str:
        """The numbers in words, such as "recalled 99.5% (97.9% to 100.0%, n = 192)", and whose they are."""
        told = _told(self.case, self.numbers, self.case.headline)
        return ". ".join(part for part in (told, self.whose) if part) or "not measured"


@dataclass(frozen=True)
class Evidence:
    """Results by (profile, notebook): the committed ones, or a single run."""

    results: Mapping[tuple[str, str], Result]

    @classmethod
    def of(cls, results: Iterable[Result]) -> Evidence:
        """Those of `results`."""
        return cls({(result.profile, result.notebook): result for result in results})

    def metric(self, profile: str, reading: Reading) -> Metric | None:
        """The number that `reading` asks for; None where it was not measured."""
        result = self.results.get((profile, reading.stem))
        if result is None:
            return None
        if reading.metric.startswith(PARAMETER):
            return _parameter(result.config, reading.metric.removeprefix(PARAMETER))
        return result.metrics.get(reading.metric)

    def numbers(self, each: Case) -> dict[str, Metric]:
        """All numbers of a case that are there, by key."""
        found = {key: self.metric(each.profile, reading) for key, reading in each.readings.items()}
        return {key: metric for key, metric in found.items() if metric is not None}

    def seeds(self, profile: str, reading: Reading) -> int:
        """How many seeds are behind a number: of the real model's tables its runs, else the result's seeds."""
        result, metric = self.results[profile, reading.stem], self.metric(profile, reading)
        runs = metric.runs if metric is not None else None
        return runs if profile == "small" and runs is not None else len(result.seeds)

    def whose(self, each: Case) -> str:
        """Backbones and seeds behind a case: the fewest seeds of the numbers that the verdict needs."""
        if each.scope:
            return each.scope
        results = [self.results[each.profile, reading.stem] for reading in each.needs.values()]
        names = sorted({str(name) for result in results for name in result.config["backbones"]})
        seeds = self.least_seeds(each)
        return f"{', '.join(names)}, {seeds} seed{'s' * (seeds > 1)}"

    def least_seeds(self, each: Case) -> int:
        """The fewest seeds behind a number that the case needs, those of the untouched backbone apart: it has none."""
        seeded = [one for one in each.needs.values() if not any(mark in one.metric for mark in UNTOUCHED)]
        return min(self.seeds(each.profile, reading) for reading in seeded)


def _parameter(config: Mapping[str, Any], name: str) -> Metric | None:
    value = config.get(name)
    if isinstance(value, list):
        value = min(value) if value and all(isinstance(each, int | float) for each in value) else len(value)
    return None if value is None else Metric(value=float(value), unit="parameter", n=1)


def judge(rule: Rule, evidence: Evidence) -> Judged:
    """The verdict of `rule` on the best evidence: the real model's with three seeds, else the small backbones'.

    Where neither is there, the real model's with fewer seeds; where no case has its numbers, "not testable here", with
    the names of those that are missing.
    """
    whole = [each for each in rule.cases if _missing(each, evidence) == []]
    if not whole:
        nearest = min(rule.cases, key=lambda each: len(_missing(each, evidence)))
        return _unmeasured(rule, nearest, evidence, _missing(nearest, evidence))
    best = next((each for each in whole if each.profile == "small" and evidence.least_seeds(each) >= ENOUGH), None)
    chosen = best or next((each for each in whole if each.profile == "tiny"), whole[0])
    others = [each for each in whole if each.profile == "small" and each is not chosen]
    return _decided(rule, chosen, others, evidence)


def _decided(rule: Rule, chosen: Case, others: list[Case], evidence: Evidence) -> Judged:
    """The verdict by the chosen case; the reason says what the real model gives where it has too few seeds."""
    numbers = evidence.numbers(chosen)
    verdict, why = chosen.decide(numbers)
    for each in others:
        why += f"; {evidence.whose(each)} so far: {each.decide(evidence.numbers(each))[0]}"
    return Judged(rule.claim, verdict, why, chosen, numbers, evidence.whose(chosen))


def _unmeasured(rule: Rule, nearest: Case, evidence: Evidence, missing: list[Reading]) -> Judged:
    names = ", ".join(f"{each.label} ({each.stem}: {each.metric})" for each in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return Judged(rule.claim, "not testable here", f"not measured: {names}{more}", nearest, evidence.numbers(nearest))


def _missing(each: Case, evidence: Evidence) -> list[Reading]:
    return [reading for reading in each.needs.values() if evidence.metric(each.profile, reading) is None]


def judge_all(results: Iterable[Result]) -> dict[str, Judged]:
    """The verdict on every claim from committed results, by claim."""
    evidence = Evidence.of(results)
    return {name: judge(rule, evidence) for name, rule in RULES.items()}


def own_claims(stem: str, config: Mapping[str, Any], metrics: Mapping[str, Metric]) -> list[Claim]:
    """What the rules say of one notebook's run alone, one entry for each claim that its numbers bear on.

    A rule that also needs another notebook's numbers gives "not testable here" and names that notebook; the verdict on
    all evidence stands in notebooks/book/claims.md.
    """
    paper = {claim.id: claim.paper_value for claim in read_claims()}
    found = [_of_run(rule, stem, config, metrics) for rule in RULES.values() if stem in rule.stems]
    return [Claim(id=each.claim, paper=paper[each.claim], measured=text, verdict=each.verdict, why=each.why)
            for each, text in found]  # fmt: skip


def _of_run(rule: Rule, stem: str, config: Mapping[str, Any], metrics: Mapping[str, Metric]) -> tuple[Judged, str]:
    """The verdict on this run, and its own numbers in words. Profiles other than "small" are judged as "tiny"."""
    profile = "small" if config["profile"] == "small" else "tiny"
    ours = [each for each in rule.cases if any(reading.stem == stem for reading in each.readings.values())]
    chosen = next((each for each in ours if each.profile == profile), ours[0])
    there = _own_numbers(chosen, stem, config, metrics)
    missing = [reading for key, reading in chosen.needs.items() if key not in there]
    verdict, why = chosen.decide(there) if not missing else ("not testable here", _lacking(missing, stem))
    return Judged(rule.claim, verdict, why, chosen), _told(chosen, there, there) or "not measured in this run"


def _own_numbers(each: Case, stem: str, config: Mapping[str, Any], metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    found = {}
    for key, reading in each.readings.items():
        if reading.stem == stem:
            name = reading.metric
            parameter = name.startswith(PARAMETER)
            found[key] = _parameter(config, name.removeprefix(PARAMETER)) if parameter else metrics.get(name)
    return {key: metric for key, metric in found.items() if metric is not None}


def _lacking(missing: Iterable[Reading], stem: str) -> str:
    own = [reading.metric for reading in missing if reading.stem == stem]
    others = sorted({reading.stem for reading in missing if reading.stem != stem})
    return (
        f"this run has no {', '.join(own)}"
        if own
        else f"the verdict, in notebooks/book/claims.md, also needs {', '.join(others)}"
    )


def report(claims: Iterable[Claim]) -> str:
    """Verdicts as a notebook prints them: claim, what was measured, the verdict with its reason, and the rule."""
    said = {claim.id: claim.claim for claim in read_claims()}
    return "\n\n".join(
        f"{each.id}: {said[each.id]}\n  measured: {each.measured}\n  by these numbers: {each.verdict} ({each.why})\n"
        f"  rule: {rule_text(RULES[each.id])}"
        for each in claims
    )


def rule_text(rule: Rule) -> str:
    """What would make the claim come out each way: the docstrings of its functions."""
    functions = dict.fromkeys(each.decide for each in rule.cases)
    return " | ".join(" ".join((function.__doc__ or "").split()) for function in functions)


def _told(each: Case, numbers: Mapping[str, Metric], keys: Iterable[str]) -> str:
    readings = each.readings
    return "; ".join(f"{readings[key].label} {number_text(numbers[key])}" for key in keys if key in numbers)


def number_text(found: Metric) -> str:
    """A number with its unit where a label does not say it, its 95% interval and its n."""
    form = ".1%" if found.unit in ("share", "probability") else ".4g" if found.unit == "ratio" else ".3g"
    unit = f" {found.unit}" if found.unit in BARE_UNITS else ""
    text = _digits(found.value, form) + unit
    parts = [" to ".join(_digits(end, form) for end in found.ci95)] if found.ci95 else []
    parts += [f"n = {found.n:,}"] if found.n > 1 else []
    return f"{text} ({', '.join(parts)})" if parts else text


def _digits(value: float, form: str) -> str:
    whole = "%" not in form and value == round(value) and abs(value) < 1e7
    return f"{value:,.0f}" if whole else f"{value:{form}}"
