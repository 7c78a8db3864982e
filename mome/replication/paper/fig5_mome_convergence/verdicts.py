"""Rules that judge the real model's rows: the bars of the project, who keeps unrelated answers, the paper's claims.

They were written before the damage done by memory experts and by LoRA behind the rejection threshold was measured. A
number is judged by its 95% interval over seeds and items, not by its mean; without an interval (one run) nothing is
decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from mome.replication.experiments.real_model.memorizing import NEAR_ZERO
from mome.replication.notebook.claims import judge
from mome.replication.notebook.results import Claim, Metric, Verdict

LEAST_RECALL = 0.98
KEPT = 0.99  # share of unrelated answers that must stay; that of leaks must be at most the rest
LOST = 0.90  # fewer than this, and the paper's "most" does not hold either
MARGIN = 0.01  # two methods are alike where the interval of their difference lies within this of 0
FROZEN, MOVING = "phase 1 as the paper says", "router not frozen"
Metrics = Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a metric must reach: `at_least` (or else at most) `value`."""

    metric: str
    value: float
    at_least: bool = True

    def outcome(self, metrics: Metrics) -> str:
        """ "met" or "missed" where the whole interval lies on that side of the bar, else "not decided"."""
        found = metrics.get(self.metric)
        if found is None:
            return "not measured"
        side = _side(found, self.value)
        if side is None:
            return "not decided"
        return "met" if side == "at" or (side == "above") == self.at_least else "missed"


BARS = (
    Bar("epochs_ratio_random", 0.4, at_least=False),
    Bar("unrelated_unchanged_mome", KEPT),
    *(Bar(f"same_bits_{name}_mome", 0.99) for name in ("lambada", "mmlu", "text")),
    Bar("other_wordings_recall_mome", 0.95),
    Bar("recognized_10000", 0.95),
    Bar("absent_taken_10000", 0.01, at_least=False),
    *(Bar(f"out_of_scope_{name}", 0.005, at_least=False) for name in ("truthfulqa", "mmlu", "lambada", "small_talk")),
)
REPORTED = (
    "epochs_ratio_random_best_rates",
    "template_withheld_recall_mome",
    "handwritten_recall_mome",
    *(f"{measure}_by_{name}" for measure in ("leak", "unrelated_unchanged") for name in ("gate", "experts")),
)


def bar_table(metrics: Metrics) -> pandas.DataFrame:
    """A row for each bar: what the metric must be, value with interval, n, outcome; then metrics without a bar."""
    rows = {}
    for bar in BARS:
        sign = "at least" if bar.at_least else "at most"
        rows[bar.metric] = {"must": f"{sign} {bar.value:g}", "outcome": bar.outcome(metrics)}
    rows |= {name: {"must": "", "outcome": "" if name in metrics else "not measured"} for name in REPORTED}
    for name, row in rows.items():
        found = metrics.get(name)
        row |= {"measured": "", "n": ""} if found is None else {"measured": valued(found), "n": f"{found.n:,}"}
    return pandas.DataFrame(rows).T[["must", "measured", "n", "outcome"]]


def _side(found: Metric, value: float) -> str | None:
    """Where the whole interval lies: "above" or "below" `value`, or "at" it without width; None where nothing is known.

    An end that equals the value is on either side.
    """
    if found.ci95 is None:
        return None
    low, high = found.ci95
    if low == high == value:
        return "at"
    return "above" if low >= value else "below" if high <= value else None


def giver(metrics: Metrics) -> str:
    """Who keeps unrelated answers as they were: "gate", "experts", "neither" or "LoRA behind the gate".

    It is the gate if LoRA behind it keeps as many as memory experts do, that is if the interval of the paired
    difference lies within 1 point of 0; the experts if they keep more by more than a point; "neither" if LoRA alone
    keeps as many as both. Empty where this is not decided or not measured.
    """
    gate, experts = (metrics.get(f"unrelated_unchanged_by_{name}") for name in ("gate", "experts"))
    if gate is None or experts is None or gate.ci95 is None or experts.ci95 is None:
        return ""
    if _within_margin(experts):
        return "neither" if _within_margin(gate) else "gate" if gate.bounds[0] > MARGIN else ""
    if experts.bounds[0] > MARGIN:
        return "experts"
    return "LoRA behind the gate" if experts.bounds[1] < -MARGIN else ""


SAID = {
    "gate": "the rejection threshold gives this, not the experts: LoRA behind it keeps as many",
    "experts": "the experts keep more than the rejection threshold does alone: LoRA behind it keeps fewer",
    "neither": "LoRA alone keeps as many: neither threshold nor experts are needed for it",
    "LoRA behind the gate": "the experts keep fewer than LoRA behind the same rejection threshold",
    "": "whether threshold or experts give this is not decided",
}


def _within_margin(found: Metric) -> bool:
    low, high = found.bounds
    return low >= -MARGIN and high <= MARGIN


def convergence_verdict(runs: pandas.DataFrame, metrics: Metrics) -> tuple[Verdict, str]:
    """Claim C10, memory experts converge as quickly as LoRA on real and on random answers, and what was measured.

    "reproduced": every run of memory experts ends below 0.05 nats/token and recalls at least 98%, and the intervals of
    both ratios of epochs lie at or below 1. "contradicted": no run does, or both intervals lie above 1. Else "partly".
    "not tested" where a ratio is missing. LoRA has the paper's rate; the ratio at both methods' best rates (of equally
    many, on a development seed) is reported beside it.
    """
    ratios = [metrics.get(f"epochs_ratio_{answers}") for answers in ("real", "random")]
    measured = [ratio for ratio in ratios if ratio is not None]
    if len(measured) < len(ratios):
        return "not tested", "runs of LoRA or of memory experts are missing"
    experts = runs[(runs["method"] == "mome") & runs["answers"].isin(["real", "random"])]
    fits = (experts["final_loss"] <= NEAR_ZERO) & (experts["recall"] >= LEAST_RECALL)
    text = "epochs to 0.05, MoME/LoRA: real {}, random {}".format(*(valued(ratio, "{:.2f}") for ratio in measured))
    text += f"; both at their best rate: {_number(metrics.get('epochs_ratio_random_best_rates'))}"
    text += f"; {fits.sum()} of {len(fits)} runs near zero and recalled"
    sides = [_side(ratio, 1.0) for ratio in measured]
    if fits.all() and all(side in ("below", "at") for side in sides):
        return "reproduced", text
    return ("contradicted" if not fits.any() or sides == ["above", "above"] else "partly"), text


def unrelated_verdict(metrics: Metrics) -> tuple[Verdict, str]:
    """Claim C03, random answers leave most answers to unrelated questions as they were, and what was measured.

    "reproduced": with memory experts at least 99% stay and at most 1% leak (both by their intervals), and this is not
    the rejection threshold's doing, which the paper does not have (`giver`: "experts" or "neither"). "contradicted":
    the interval of those that stay lies below 90%. Else "partly": also where the threshold gives it, or where it is not
    decided who does. "not tested" where memory experts were not measured.
    """
    stay, leak = (metrics.get(f"{name}_mome") for name in ("unrelated_unchanged", "leak"))
    if stay is None or leak is None:
        return "not tested", "memory experts were not measured"
    titles = {"lora": "LoRA", "lora_gated": "LoRA behind the threshold", "mome": "MoME"}
    parts = [
        f"{title} " + " and ".join(_share(metrics.get(f"{name}_{key}")) for name in ("unrelated_unchanged", "leak"))
        for key, title in titles.items()
    ]
    text = f"unrelated answers word for word as before, and with a random string: {', '.join(parts)}"
    if _side(stay, LOST) == "below":
        return "contradicted", text
    kept = _side(stay, KEPT) in ("above", "at") and _side(leak, 1 - KEPT) in ("below", "at")
    return ("reproduced" if kept and giver(metrics) in ("experts", "neither") else "partly"), text


def frozen_verdict(ablated: pandas.DataFrame) -> tuple[Verdict, str]:
    """Claim C12, a frozen router helps, and what was measured; `ablated` has recipe, recall, general_accuracy.

    "reproduced" if training the router along recalls less, or keeps fewer general answers, by more than a point; "not
    tested" where one of the two recipes was not measured.
    """
    means = ablated.groupby("recipe").mean(numeric_only=True)
    if not {FROZEN, MOVING} <= set(means.index):
        return "not tested", "ablations of this backbone were not measured"
    frozen, moving = means.loc[FROZEN], means.loc[MOVING]
    helps = any(moving[name] < frozen[name] - 0.01 for name in ("recall", "general_accuracy"))
    text = f"frozen router: recall {frozen['recall']:.1%}, general accuracy {frozen['general_accuracy']:.1%}"
    text += f"; trained along: {moving['recall']:.1%}, {moving['general_accuracy']:.1%}"
    return ("reproduced" if helps else "partly"), text


def real_claims(
    runs: pandas.DataFrame, metrics: Metrics, ablated: pandas.DataFrame, missing: Sequence[str]
) -> list[Claim]:
    """The verdicts on C10, C03 and C12 of a real model; `missing` says what was not measured."""
    seeds = sorted(runs["seed"].unique())
    why = f"seeds {', '.join(map(str, seeds))}; LoRA at the paper's rate" if seeds else "no run"
    why += f"; parts of the tables that are missing: {len(missing)}" if missing else ""
    return [
        judge("C10", *convergence_verdict(runs, metrics), why),
        judge("C03", *unrelated_verdict(metrics), SAID[giver(metrics)]),
        judge("C12", *frozen_verdict(ablated), "phase 1 as the paper says, no anchors"),
    ]


def _share(found: Metric | None) -> str:
    return "not measured" if found is None else valued(found, "{:.1%}")


def _number(found: Metric | None) -> str:
    return "not measured" if found is None else valued(found, "{:.2f}")


def valued(found: Metric, form: str = "{:.3g}") -> str:
    """The value, with its interval where there is one."""
    value = form.format(found.value)
    return value if found.ci95 is None else f"{value} ({' to '.join(form.format(end) for end in found.ci95)})"
