"""Rules of the claims on memorizing: how far a loss falls, how long that takes, and how fast memory experts are."""

from __future__ import annotations

from mome.replication.ledger.comparing import above, below, inside, side, yes_or_no
from mome.replication.ledger.rule import Numbers, Rule, Ruling, case

FIG1, FIG2, FIG5 = "01_fig1_random_vs_real", "03_fig2_pretraining_loss", "06_fig5_mome_convergence"
COST = "08_sec1_cost"
NEAR_ZERO = 0.05  # nats/token
RECALLED = 0.98
SAME_PACE = (0.8, 1.25)  # epochs on random over epochs on real answers
SAME_CURVE = 0.1  # nats/token: two curves are alike where the interval of their difference lies within this of 0


def random_answers_fit(found: Numbers) -> Ruling:
    """C01. Reproduced: the loss on random answers ends below 0.05 nats/token and at least 98% of them come back.

    Contradicted: the loss ends above 0.05. Mixed: the interval holds 0.05, or fewer come back.
    """
    if above(found["loss"], NEAR_ZERO):
        return "contradicted", "the loss stays above 0.05 nats/token"
    if below(found["loss"], NEAR_ZERO) and found["recall"].value >= RECALLED:
        return "reproduced", "the loss ends below 0.05 nats/token and the strings come back"
    return "mixed", "the loss comes near zero, but not surely below 0.05, or too few strings come back"


def same_curve(found: Numbers) -> Ruling:
    """C02. Reproduced: both losses end below 0.05 nats/token, by the same course. Contradicted: neither holds.

    The course is the same if the curves lie within 0.1 nats/token of each other (whole interval of the mean
    difference), or if random answers take 0.8 to 1.25 times the epochs of real ones. Mixed: one of the two holds.
    """
    same_end = all(below(found[name], NEAR_ZERO) for name in ("random_loss", "real_loss"))
    pace = found["random_epochs"].value / found["real_epochs"].value
    same_course = inside(found["difference"], -SAME_CURVE, SAME_CURVE) or SAME_PACE[0] <= pace <= SAME_PACE[1]
    course = f"{yes_or_no(same_course)} ({pace:.2f} times the epochs)"
    why = f"both end near zero: {yes_or_no(same_end)}; same course: {course}"
    return ("reproduced" if same_end and same_course else "mixed" if same_end or same_course else "contradicted"), why


def hundred_times(found: Numbers) -> Ruling:
    """C05. Reproduced: every count of epochs lies between 50 and 200, a factor of two around the paper's hundred.

    Contradicted: every count is at most a tenth of a hundred, or at least ten times it. Mixed: else.
    """
    counts = list(found.values())
    if all(inside(count, 50, 200) for count in counts):
        return "reproduced", "50 to 200 epochs"
    if all(below(count, 10) for count in counts) or all(above(count, 1000) for count in counts):
        return "contradicted", "not within a factor of ten of a hundred epochs"
    return "mixed", "more than the usual single epoch, but not about a hundred; the count depends on the learning rate"


def converges_as_lora(found: Numbers) -> Ruling:
    """C10, by the rule that was committed before its run (commit ba7cad0).

    Reproduced: every run of memory experts ends below 0.05 nats/token and recalls at least 98%, and the intervals of
    both ratios of epochs, MoME over LoRA, lie at or below 1. Contradicted: no run does, or both intervals lie above 1.
    Mixed: else.
    """
    fits = found["fits"].value
    sides = [side(found[name], 1.0) for name in ("real", "random")]
    why = f"{fits:.0%} of the runs of memory experts end near zero and are recalled; LoRA at the paper's learning rate"
    if fits == 1 and all(each in ("below", "at") for each in sides):
        return "reproduced", why
    return ("contradicted" if fits == 0 or sides == ["above", "above"] else "mixed"), why


def no_more_epochs(found: Numbers) -> Ruling:
    """C10 on the small backbones: epochs to 0.05 nats/token of memory experts over those of LoRA.

    Reproduced: at most 1 on real and on random answers, and at least 98% recalled. Mixed: more epochs, but recalled.
    Contradicted: fewer than 98% recalled.
    """
    paces = [found[f"mome_{kind}"].value / found[f"lora_{kind}"].value for kind in ("real", "random")]
    why = "MoME/LoRA: real {:.2f}, random {:.2f} times the epochs".format(*paces)
    if min(found[f"recall_{kind}"].value for kind in ("real", "random")) < RECALLED:
        return "contradicted", f"memory experts do not recall what they were trained on; {why}"
    return ("reproduced" if max(paces) <= 1 else "mixed"), why


LOSS, RECALL = "lora_final_loss_{}", "lora_recall_{}"
FIT = {
    "loss": (FIG1, LOSS.format("random"), "final loss on random answers"),
    "recall": (FIG1, RECALL.format("random"), "random answers recalled"),
}
FIT_ELSEWHERE = {
    "other_set": (FIG1, "lora_final_loss_random_truthfulqa", "final loss on random answers, TruthfulQA"),
    "other_recall": (FIG1, "lora_recall_random_truthfulqa", "random answers recalled, TruthfulQA"),
}
CURVE = {
    "random_loss": (FIG1, LOSS.format("random"), "final loss on random answers"),
    "real_loss": (FIG1, LOSS.format("real"), "on real ones"),
    "random_epochs": (FIG1, "lora_epochs_to_0.05_random", "epochs to 0.05 nats/token on random answers"),
    "real_epochs": (FIG1, "lora_epochs_to_0.05_real", "on real ones"),
    "difference": (FIG1, "curve_difference_random_real", "curve on random less curve on real answers"),
}
EPOCHS = {
    "random": (FIG1, "lora_epochs_to_0.05_random", "epochs to 0.05 nats/token on random answers"),
    "real": (FIG1, "lora_epochs_to_0.05_real", "on real ones"),
}
PRETRAINING = {
    "llama": (FIG2, "epochs_to_95_tiny-llama", "epochs of pretraining to recall 95% (tiny-llama)"),
    "mistral": (FIG2, "epochs_to_95_tiny-mistral", "(tiny-mistral)"),
    "tuning": (FIG2, "epochs_to_95_tuning", "epochs of tuning to recall 95%"),
}
RATIOS = {
    "real": (FIG5, "epochs_ratio_real", "epochs, MoME/LoRA, real answers"),
    "random": (FIG5, "epochs_ratio_random", "random answers"),
    "fits": (FIG5, "mome_runs_that_fit", "MoME's runs near zero and recalled"),
}
BOTH = {
    **{f"{m}_{k}": (FIG5, f"{m}_epochs_to_0.05_{k}", f"epochs to 0.05 nats/token, {title}, {k} answers")
       for m, title in (("mome", "MoME"), ("lora", "LoRA")) for k in ("real", "random")},
    **{f"recall_{k}": (FIG5, f"mome_recall_{k}", f"recalled by MoME, {k} answers") for k in ("real", "random")},
}  # fmt: skip
RULES = (
    Rule("C01", (case("small", random_answers_fit, FIT), case("tiny", random_answers_fit, FIT, FIT_ELSEWHERE))),
    Rule("C02", (case("small", same_curve, CURVE), case("tiny", same_curve, CURVE))),
    Rule("C05", (case("small", hundred_times, EPOCHS), case("tiny", hundred_times, {**EPOCHS, **PRETRAINING}))),
    Rule("C10", (case("small", converges_as_lora, RATIOS), case("tiny", no_more_epochs, BOTH))),
)
