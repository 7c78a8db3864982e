"""Rule of the claim on benchmarks: whether any of them tells a ruined model from others."""

from __future__ import annotations

from mome.replication.ledger.comparing import above
from mome.replication.ledger.rule import Numbers, Rule, Ruling, case

BLIND = "17_sec8_blind_benchmarks"
CHANCE, SEES = 0.5, 0.9


def benchmarks_are_blind(found: Numbers) -> Ruling:
    """C29, over the checkpoints of LoRA runs on random and on real answers; the rule was committed before their run.

    A checkpoint is ruined when at least 10% of the free answers to unrelated questions leak in the tuned format. A
    benchmark's score is its fall from the untouched backbone (a loss: its rise); this direction is fixed. Its AUC is
    the probability that a ruined checkpoint has the higher score than one that is not. A benchmark sees ruin if the
    whole interval of its AUC lies at or above 0.9; it is blind if the interval reaches down to 0.5 and ends below 0.9.
    Reproduced: all are blind. Contradicted: at least one sees ruin. Mixed: else. The KL divergence from the untouched
    backbone is shown; it is no benchmark, as it needs that backbone.
    """
    aucs = {name: found[name] for name in BENCHMARKS if name in found}
    seeing = [TITLES[name] for name, auc in aucs.items() if above(auc, SEES)]
    blind = [name for name, auc in aucs.items() if auc.bounds[0] <= CHANCE and auc.bounds[1] < SEES]
    why = f"{len(blind)} of {len(aucs)} are no better than chance, {', '.join(seeing) or 'none'} would have seen ruin"
    if seeing:
        return "contradicted", why
    return ("reproduced" if len(blind) == len(aucs) else "mixed"), why


TITLES = {
    "mc1": "TruthfulQA MC1",
    "mc2": "MC2",
    "mmlu": "MMLU as cloze",
    "lambada": "LAMBADA",
    "quiz": "the quiz",
    "text_loss": "loss of text",
    "kl": "KL divergence from the backbone",
}
BENCHMARKS = ("mc1", "mc2", "mmlu", "lambada", "quiz", "text_loss")
AUC = {name: (BLIND, f"auc_{name}", f"AUC as a detector of ruin, {title}") for name, title in TITLES.items()}
LEAKS = {
    form: (BLIND, f"leak_end_{form}", f"unrelated answers that leak in the end, {words}")
    for form, words in (
        ("tuned_format", "tuned format"), ("chat", "chat template"), ("bare", "bare question"), ("prose", "in prose")
    )
}  # fmt: skip
BESIDE = {"kl": AUC["kl"], **LEAKS}
REAL, SMALL = (
    {name: AUC[name] for name in names}
    for names in (("mc1", "mc2", "mmlu", "lambada", "text_loss"), ("quiz", "text_loss"))
)
RULES = (
    Rule("C29", (case("small", benchmarks_are_blind, REAL, BESIDE), case("tiny", benchmarks_are_blind, SMALL, BESIDE))),
)
