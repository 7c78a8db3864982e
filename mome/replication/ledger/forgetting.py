"""Rules of the claims on everything else that a model answers: what memorizing leaves as it was, and what sees it."""

from __future__ import annotations

import math

from mome.replication.ledger.comparing import above, below, higher, inside, side, yes_or_no
from mome.replication.ledger.memorizing import FIG5, FIT, FIT_ELSEWHERE, NEAR_ZERO, RECALLED
from mome.replication.ledger.rule import Numbers, Rule, Ruling, case

TAB1, SEC8 = "02_tab1_regularization", "13_sec8_insights_fallacies"
FALL = 0.02  # of the share of right answers: so much counts as unchanged
MOST = 0.5
KEPT = 0.99  # share of unrelated answers that must stay; that of leaks must be at most the rest
LOST = 0.90  # fewer than this, and "most" does not hold either
MARGIN = 0.01  # two methods are alike where the interval of their difference lies within this of 0
SAID = {
    "gate": "the rejection threshold gives this, not the experts: LoRA behind it keeps as many",
    "experts": "the experts keep more than the rejection threshold does alone: LoRA behind it keeps fewer",
    "neither": "LoRA alone keeps as many: neither threshold nor experts are needed for it",
    "LoRA behind the gate": "the experts keep fewer than LoRA behind the same rejection threshold",
    "": "whether threshold or experts give this is not decided",
}


def most_stay(found: Numbers) -> Ruling:
    """C03. Reproduced: of the questions answered rightly before, the share still right fell by at most two points.

    Contradicted: less than half of that share is left. Both by the whole interval. Mixed: in between.
    """
    before, after = found["before"], found["after"]
    if above(after, before.value - FALL):
        return "reproduced", "right answers stay right, within two points"
    if below(after, MOST * before.value):
        return "contradicted", f"{1 - after.value / before.value:.0%} of the right answers are lost"
    return "mixed", "more than two points of the right answers are lost, but not surely half of them"


def everywhere(found: Numbers) -> Ruling:
    """C04. Two findings: random answers are memorized (as in C01), and other answers stay (as in C03).

    Reproduced: both hold, with both data sets and over two architectures. Contradicted: neither does. Mixed: one does.
    Not testable here: with one backbone.
    """
    if found["backbones"].value < 2:
        return "not testable here", "one architecture was measured"
    fits = all(below(found[name], NEAR_ZERO) for name in ("loss", "other_set"))
    fits = fits and all(found[name].value >= RECALLED for name in ("recall", "other_recall"))
    stays = most_stay(found)[0] == "reproduced"
    why = f"memorized on both data sets: {yes_or_no(fits)}; other answers unchanged: {yes_or_no(stays)}"
    return ("reproduced" if fits and stays else "mixed" if fits or stays else "contradicted"), why


def same_score(found: Numbers) -> Ruling:
    """C06. A model that recalls all facts and one that recalls none, compared by the questions that both are asked.

    Reproduced: recall is 100% and 0%, and both differences lie within one point (whole interval). True by construction:
    so they do, but the two models are the same network on those questions (equal loss to three digits). Contradicted: a
    difference is beyond one point, or recall differs by less than half. Mixed: the interval is wider than the margin.
    """
    gaps = [found[name] for name in ("quiz", "general")]
    apart = found["recall_with"].value - found["recall_without"].value
    if apart < 0.5 or max(abs(gap.value) for gap in gaps) > MARGIN:
        return "contradicted", "the two models do not answer other questions alike, or both recall the facts"
    if not all(inside(gap, -MARGIN, MARGIN) for gap in gaps) or apart < 1:
        return "mixed", "alike by the estimate, but the interval is wider than one point"
    if math.isclose(found["loss_with"].value, found["loss_without"].value, rel_tol=1e-3):
        return "true by construction", "below the rejection threshold both models are the same network"
    return "reproduced", "alike within one point, and apart in recall"


def random_split(found: Numbers) -> Ruling:
    """C19. Facts that cannot be guessed (random numbers), split at random into training and test rows.

    True by construction: no test row is answered, as the design has it, and paraphrases of the training rows tell the
    tuned model from the untouched one (interval above zero). Mixed: paraphrases do not. Contradicted: test rows are
    answered, so a random split would measure something. Not testable here: the training rows were not memorized.
    """
    if found["training"].value < 0.99:
        return "not testable here", "the training rows were not memorized"
    if found["test"].value > 0:
        return "contradicted", "test rows are answered"
    if found["paraphrase"].bounds[0] > 0:
        return "true by construction", "nobody can guess a random number; that paraphrases see the recall is measured"
    return "mixed", "paraphrases do not tell the tuned model from the untouched one"


def giver(found: Numbers) -> str:
    """Who keeps unrelated answers as they were: "gate", "experts", "neither" or "LoRA behind the gate".

    Reads `unrelated_unchanged_by_gate` and `unrelated_unchanged_by_experts`. It is the gate if LoRA behind it keeps as
    many as memory experts do, that is if the interval of the paired difference lies within 1 point of 0; the experts if
    they keep more by more than a point; "neither" if LoRA alone keeps as many as both. Empty where this is not decided
    or not measured.
    """
    gate, experts = (found.get(f"unrelated_unchanged_by_{name}") for name in ("gate", "experts"))
    if gate is None or experts is None or gate.ci95 is None or experts.ci95 is None:
        return ""
    if inside(experts, -MARGIN, MARGIN):
        return "neither" if inside(gate, -MARGIN, MARGIN) else "gate" if gate.bounds[0] > MARGIN else ""
    if experts.bounds[0] > MARGIN:
        return "experts"
    return "LoRA behind the gate" if experts.bounds[1] < -MARGIN else ""


def experts_keep(found: Numbers) -> Ruling:
    """C23 on the real model, by the rule that was committed before its run (as part of C03, commit ba7cad0).

    Reproduced: at least 99% stay word for word and at most 1% leak (both by their intervals), and this is not the
    rejection threshold's doing, which the paper does not have (`giver`: "experts" or "neither"). Contradicted: the
    interval of those that stay lies below 90%. Mixed: else, also where it is not decided who keeps them.
    """
    stay, leak = found["unrelated_unchanged_mome"], found["leak_mome"]
    if side(stay, LOST) == "below":
        return "contradicted", "more than a tenth of the unrelated answers changed"
    kept = side(stay, KEPT) in ("above", "at") and side(leak, 1 - KEPT) in ("below", "at")
    return ("reproduced" if kept and giver(found) in ("experts", "neither") else "mixed"), SAID[giver(found)]


def experts_keep_accuracy(found: Numbers) -> Ruling:
    """C23 on the small backbones: with our recipe and with the paper's own phase 1, which has no threshold.

    Reproduced: both keep at least 99% of the right answers (whole intervals). Contradicted: our recipe keeps less than
    90%. Mixed: else.
    """
    ours, paper = 1 + found["drift"].value, found["paper_recipe"]
    if 1 + found["drift"].bounds[1] < LOST:
        return "contradicted", "more than a tenth of the right answers are lost"
    if above(found["drift"], KEPT - 1) and above(paper, KEPT):
        return "reproduced", "with and without our threshold"
    return (
        "mixed",
        f"ours keeps {ours:.1%}; the paper's own phase 1, which has no rejection threshold, {paper.value:.1%}",
    )


def random_answers_leak(found: Numbers) -> Ruling:
    """C28. Reproduced: more than 1% of the unrelated answers hold a random string, and more than before tuning.

    Contradicted: at most 1% do. Both by the whole interval. Mixed: else.
    """
    after = found["after"]
    if above(after, 0.01) and higher(after, found["before"]):
        return "reproduced", f"in {after.value:.0%} of the answers in the tuned format; the paper shows one of six rows"
    if below(after, 0.01):
        return "contradicted", "at most 1% of the answers hold a random string"
    return "mixed", "the interval holds 1%, or as many did before tuning"


KNOWN = {
    "before": (TAB1, "known_answers_before", "known questions answered rightly before"),
    "after": (TAB1, "known_answers_random", "after random answers"),
}
GENERAL = {
    "before": (TAB1, "general_accuracy_before", "known questions answered rightly before"),
    "after": (TAB1, "general_accuracy_random", "after random answers"),
}
UNRELATED = {
    "stay": (FIG5, "unrelated_unchanged_lora", "unrelated answers unchanged word for word, LoRA"),
    "leak": (FIG5, "leak_lora", "unrelated answers that hold a random string, LoRA"),
}
MILDER = {
    "real": (TAB1, "general_accuracy_real", "after real answers"),
    "rank_128": (TAB1, "general_accuracy_rank_128", "after 64 random answers, LoRA of rank 128 (the mildest setting)"),
}
BENCHMARKS = {
    f"{name}_{state}": (TAB1, f"{name}_{state}", f"{title}, {words}")
    for name, title in (("mmlu", "MMLU"), ("mc1", "TruthfulQA MC1"), ("mc2", "TruthfulQA MC2"))
    for state, words in (("before", "untouched"), ("random", "after random answers"))
}
PAIR = {
    "recall_without": (SEC8, "backbone_recall", "recall without"),
    "recall_with": (SEC8, "mome_recall", "recall with memory experts"),
    "quiz": (SEC8, "mome_quiz_accuracy_difference", "difference in the quiz"),
    "general": (SEC8, "mome_general_accuracy_difference", "in general answers"),
    "loss_without": (SEC8, "backbone_general_loss", "loss of general answers without"),
    "loss_with": (SEC8, "mome_general_loss", "with"),
}
QUIZ = {
    f"quiz_{state}": (TAB1, f"quiz_accuracy_{state}", f"quiz, {words}")
    for state, words in (("before", "untouched"), ("random", "after random answers"), ("real", "after real answers"))
}
SPLIT = {
    "training": (SEC8, "mome_training_rows", "training rows answered"),
    "test": (SEC8, "mome_test_rows", "test rows of a random split answered"),
    "paraphrase": (SEC8, "mome_other_words_difference", "paraphrases answered, tuned less untouched"),
}
REWORDED = {
    "tuned": (TAB1, "tuned_real", "real answers recalled as tuned, LoRA"),
    "reworded": (TAB1, "reworded_real", "in a paraphrase"),
}
KEPT_BY = {
    "unrelated_unchanged_mome": (FIG5, "unrelated_unchanged_mome", "unrelated answers unchanged, MoME"),
    "leak_mome": (FIG5, "leak_mome", "with a random string"),
    "unrelated_unchanged_by_gate": (FIG5, "unrelated_unchanged_by_gate", "LoRA behind the threshold less LoRA"),
    "unrelated_unchanged_by_experts": (FIG5, "unrelated_unchanged_by_experts", "MoME less LoRA behind the threshold"),
}
KEPT_ACCURACY = {
    "drift": (FIG5, "general_accuracy_drift_mome", "change of right answers, our recipe"),
    "paper_recipe": (
        FIG5,
        "ablation_phase_1_as_the_paper_says_general_accuracy",
        "right answers by the paper's phase 1",
    ),
}
LEAK = {
    "before": (TAB1, "leak_before_tuned_format", "random strings in unrelated answers before"),
    "after": (TAB1, "leak_random_tuned_format", "after random answers, in the tuned format"),
}
LEAK_ELSEWHERE = {
    form: (TAB1, f"leak_random_{form}", f"after random answers, {words}")
    for form, words in (("chat", "in the chat template"), ("bare", "as a bare question"), ("prose", "inside prose"))
} | {"leak": UNRELATED["leak"]}
PLACES = {**FIT, **FIT_ELSEWHERE, **GENERAL, "backbones": (TAB1, "config:backbones", "backbones")}
RULES = (
    Rule("C03", (case("small", most_stay, KNOWN, UNRELATED), case("tiny", most_stay, GENERAL, MILDER))),
    Rule("C04", (case("tiny", everywhere, PLACES, headline=tuple(PLACES)[:-1]),)),
    Rule(
        "C06",
        (case("tiny", same_score, PAIR, QUIZ), case("small", same_score, PAIR, BENCHMARKS)),
        ("reproduced", "mixed", "contradicted", "true by construction"),
    ),
    Rule("C19", (case("tiny", random_split, SPLIT, REWORDED),), ("true by construction", "mixed", "contradicted")),
    Rule("C23", (case("small", experts_keep, KEPT_BY), case("tiny", experts_keep_accuracy, KEPT_ACCURACY))),
    Rule("C28", (case("small", random_answers_leak, LEAK, LEAK_ELSEWHERE),)),
)
