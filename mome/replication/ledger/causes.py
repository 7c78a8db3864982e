"""Rules of the claims on where hallucinations come from: loss, threshold, data, sampling, pretraining."""

from __future__ import annotations

import math

from mome.replication.ledger.comparing import above, below, higher
from mome.replication.ledger.memorizing import FIG2, NEAR_ZERO
from mome.replication.ledger.rule import Numbers, Rule, Ruling, case

FIG3, FIG6 = "04_fig3_entropy", "07_fig6_memory_tuning"
SEC4, SEC5 = "14_sec4_explanations", "10_sec5_threshold"
KINDS = ("random", "real")
USUAL = ("untouched", "underfit", "generalizing", "overfit")
TOLERANCE = 0.05  # nats/token above the best eval loss
PAPER_LOSS = 1.75  # nats/token
FAMILIES = {  # of the causes whose effect does not follow from the design
    "conflict": ("conflict_even", "conflict_uneven"),
    "bias": ("skew",),
    "sampling": ("temperature_0_5", "temperature_1", "temperature_1_5", "top_p_0_9"),
    "attention": ("distractors", "padding", "repeats"),
}
WITHSTANDS = 0.10  # the untouched backbone is wrong under the cause in at most so many answers that it knows


def one_threshold(found: Numbers) -> Ruling:
    """C07. Reproduced: the threshold holds in every simple network, and one mean loss parts the moments of all runs.

    The moments with a hallucinated answer are parted from those without. Mixed: only the simple networks have a
    threshold. Contradicted: they do not either.
    """
    if found["holds"].value < 1:
        return "contradicted", "the derived threshold fails in a simple network"
    if found["clean"].value < found["dirty"].value:
        return "reproduced", "one mean loss parts the moments of all runs"
    return "mixed", "the simple network has a threshold, 2 ln 2 / (nL); no one mean loss parts the runs of tuned models"


def explanations(found: Numbers) -> Ruling:
    """C14, over the families of causes whose effect does not follow from the design.

    A cause suffices if LoRA at near-zero training loss hallucinates more under it than without any cause (intervals
    apart). Facts that are missing or outdated in training cannot be known by any model and do not count. A cause that
    the untouched backbone does not withstand (the interval of its wrong answers reaches above 10%) does not count
    either: then the toy fails, and not the training. Reproduced: no family has a cause that suffices, and without a
    cause a high loss hallucinates more. Contradicted: more than half of the families have one. Mixed: else. Not
    testable here: no family is left.
    """
    families = {name: [cause for cause in causes if _withstands(found, cause)] for name, causes in FAMILIES.items()}
    counted = {name: causes for name, causes in families.items() if causes}
    if not counted:
        return "not testable here", "the untouched backbone withstands none of the causes"
    enough = [name for name, causes in counted.items() if any(higher(found[each], found["none"]) for each in causes)]
    dropped = [name for name in families if name not in counted]
    why = (
        f"{len(enough)} of {len(counted)} testable families suffice alone ({', '.join(enough) or 'none'}); missing and"
    )
    why += " outdated facts suffice by construction" + "".join(f"; {name}: the toy fails by itself" for name in dropped)
    if not enough and higher(found["none_high"], found["none"]):
        return "reproduced", why
    return ("contradicted" if len(enough) > len(counted) / 2 else "mixed"), why


def _withstands(found: Numbers, cause: str) -> bool:
    untouched = found.get(f"{cause}_backbone")
    return untouched is None or below(untouched, WITHSTANDS)


def memory_tuning(found: Numbers) -> Ruling:
    """C17. A model has low loss on key facts (below 0.05 nats/token), and the best loss elsewhere (within 0.05 of it).

    Reproduced: with random and with real answers the memory-tuned model has both, and no usual model has. Contradicted:
    it has neither with either. Mixed: else.
    """
    tuned = [part for kind in KINDS for part in _parts(found, "memory_tuned", kind)]
    usual = [f"{title} ({kind})" for kind in KINDS for title in USUAL if all(_parts(found, title, kind))]
    why = f"usual models that have both: {', '.join(usual) or 'none'}; below the rejection threshold the eval loss is"
    why += " the backbone's by construction"
    if all(tuned) and not usual:
        return "reproduced", why
    return ("mixed" if any(tuned) else "contradicted"), why


def _parts(found: Numbers, title: str, kind: str) -> list[bool]:
    return [found[f"key_{title}_{kind}"].value < NEAR_ZERO, found[f"excess_{title}_{kind}"].value <= TOLERANCE]


def near_1_75(found: Numbers) -> Ruling:
    """C18. Reproduced: each published scaling law puts a 7B model within 0.1 nats of 1.75, after 1T and 2T tokens.

    Contradicted: a law lets it end below ln 2, where greedy answers would be safe. Mixed: else. The laws say it, and no
    7B model is trained here.
    """
    misses = [each.value for each in found.values()]
    if max(map(abs, misses)) <= 0.1:
        return "reproduced", "by the scaling laws, not by a run"
    if min(misses) + PAPER_LOSS < math.log(2):
        return "contradicted", "a law lets one epoch end below ln 2"
    return "mixed", f"the laws say {min(misses):.2f} to {max(misses):.2f} nats more; no 7B model was trained"


def three_shapes(found: Numbers) -> Ruling:
    """C21. Even: where the mean loss is at least half of ln V, so is the mean entropy. Certain: at the last moment the
    largest probability is at least 0.99 and at least 99% of the answers are right. Concentrated: at low loss the
    entropy is below half of ln V, and two draws for a question are more alike, and more often of its kind, than chance.

    Reproduced: all three. Mixed: certain, but not all. Contradicted: not certain at zero loss.
    """
    half = found["max_entropy"].value / 2
    moments = ("blank", "pretrained", "low", "zero")
    even = all(found[f"entropy_{at}"].value >= half for at in moments if found[f"loss_{at}"].value >= half)
    similar = found["likeness"].bounds[0] > 0 and found["kind"].bounds[0] > found["chance"].value
    concentrated = found["entropy_low"].value < half and similar
    certain = found["largest"].value >= 0.99 and found["right"].value >= 0.99
    told = {"even at high loss": even, "concentrated on similar tokens": concentrated, "certain at zero loss": certain}
    why = ", ".join(f"{title}: {'yes' if holds else 'no'}" for title, holds in told.items())
    return ("reproduced" if all(told.values()) else "mixed" if certain else "contradicted"), why


def seen_and_forgotten(found: Numbers) -> Ruling:
    """C24. Facts that stand in the pretraining text, asked after two epochs of it.

    Reproduced: fewer than half come back, in each backbone. Contradicted: at least 95% do, in each. Both by the whole
    interval. Mixed: else.
    """
    shares = [found["llama"], found["mistral"]]
    if all(below(share, 0.5) for share in shares):
        return "reproduced", "most facts of the pretraining text are still answered wrongly"
    if all(above(share, 0.95) for share in shares):
        return "contradicted", "two epochs suffice"
    return "mixed", "some facts are recalled after two epochs, not nearly all"


def seen_once(found: Numbers) -> Ruling:
    """C25. Reproduced: facts seen once in pretraining are recalled less often than those seen many times.

    Contradicted: they are recalled as often or more, by the value. Mixed: the intervals overlap.
    """
    once, often = found["once"], found["often"]
    if higher(often, once):
        return "reproduced", "repetition helps, so removing repetitions costs recall"
    if once.value >= often.value:
        return "contradicted", "repetition does not help"
    return "mixed", "the intervals overlap"


RATE = "hallucination_{}_{}"
NAMES = {
    "conflict_even": "two sources that disagree evenly",
    "conflict_uneven": "two sources, 90 against 10",
    "skew": "another answer in 90% of the rows",
    "temperature_0_5": "sampling at temperature 0.5",
    "temperature_1": "at temperature 1",
    "temperature_1_5": "at temperature 1.5",
    "top_p_0_9": "at top-p 0.9",
    "distractors": "three other answers in front",
    "padding": "a long polite prefix",
    "repeats": "every word twice",
}
UNTOUCHED = {
    f"{cause}_backbone": (SEC4, RATE.format(cause, "backbone"), f"untouched backbone, {NAMES[cause]}")
    for cause in FAMILIES["attention"]
}
EXPLAINED = {
    "none_high": (SEC4, RATE.format("none", "high"), "wrong answers without a cause, at high loss"),
    "none": (SEC4, RATE.format("none", "zero"), "all that follow at near-zero loss: without a cause"),
    **{cause: (SEC4, RATE.format(cause, "zero"), name) for cause, name in NAMES.items()},
    **UNTOUCHED,
}
BY_DESIGN = {
    cause: (SEC4, RATE.format(cause, "zero"), f"{cause} facts, at near-zero loss") for cause in ("missing", "outdated")
}
TUNED = {
    **{
        f"key_memory_tuned_{kind}": (FIG6, f"key_loss_memory_tuned_{kind}", f"loss on key facts, {kind} answers")
        for kind in KINDS
    },
    **{
        f"excess_memory_tuned_{kind}": (FIG6, f"eval_excess_memory_tuned_{kind}", f"eval loss over the best, {kind}")
        for kind in KINDS
    },
    **{
        f"{short}_{title}_{kind}": (FIG6, f"{name}_{title}_{kind}", f"{words}, {title}, {kind}")
        for kind in KINDS
        for title in USUAL
        for short, name, words in (("key", "key_loss", "key facts"), ("excess", "eval_excess", "eval over the best"))
    },
}
LAWS = {
    f"{law}_{tokens}": (FIG2, f"{law}_miss_at_{tokens}", f"above 1.75 nats after {tokens} tokens, {law}")
    for law in ("hoffmann_2022", "hoffmann_2022_tex", "besiroglu_2024")
    for tokens in ("1e+12", "2e+12")
}
SHAPES = {
    "max_entropy": (FIG3, "max_entropy", "ln V"),
    **{f"{name}_{at}": (FIG3, f"{name}_{at}", f"{name} {words}") for name in ("loss", "entropy") for at, words in (
        ("blank", "before pretraining"), ("pretrained", "pretrained"), ("low", "at low loss"), ("zero", "at zero loss")
    )},
    "likeness": (FIG3, "likeness_excess_low", "two draws for one question more alike than chance, by"),
    "kind": (FIG3, "kind_low", "probability beside the right token on its kind"),
    "chance": (FIG3, "kind_by_chance", "by chance"),
    "largest": (FIG3, "largest_zero", "largest probability at zero loss"),
    "right": (FIG3, "right_zero", "right at zero loss"),
}  # fmt: skip
SIMPLE = {
    "holds": (SEC5, "simple_threshold_holds", "simple networks whose threshold is as derived"),
    "clean": (SEC5, "highest_loss_without_hallucination", "tuned models: highest mean loss with no wrong answer"),
    "dirty": (SEC5, "lowest_loss_with_hallucination", "lowest with one"),
}
IN_PRETRAINING = {
    "llama": (FIG2, "recall_epoch_2_tiny-llama", "facts of the pretraining text recalled after 2 epochs, tiny-llama"),
    "mistral": (FIG2, "recall_epoch_2_tiny-mistral", "tiny-mistral"),
}
AT_PAPER_LOSS = {
    name: (FIG2, f"recall_at_paper_loss_{name}", f"recalled at a mean loss of 1.75, {name}")
    for name in ("tiny-llama", "tiny-mistral")
}
EXPOSED = {
    "once": (FIG2, "recall_seen_once", "facts seen once in pretraining recalled"),
    "often": (FIG2, "recall_seen_64_times", "facts seen 64 times recalled"),
}
ONE_RUN = "one pretraining run a backbone"
SHOWN_CAUSES = ("none_high", "none", "conflict_even", "skew", "temperature_1_5", "padding", "padding_backbone")
SHOWN_MODELS = tuple(f"{part}_{title}_{kind}" for kind in KINDS for title, part in (
    ("memory_tuned", "key"), ("memory_tuned", "excess"), ("generalizing", "key")
))  # fmt: skip
SHOWN_LAWS = ("hoffmann_2022_1e+12", "besiroglu_2024_1e+12")
SHOWN_SHAPES = ("max_entropy", "entropy_blank", "entropy_pretrained", "loss_pretrained", "entropy_low", "entropy_zero")
RULES = (
    Rule("C07", (case("tiny", one_threshold, SIMPLE),)),
    Rule("C14", (case("tiny", explanations, EXPLAINED, BY_DESIGN, SHOWN_CAUSES),)),
    Rule("C17", (case("tiny", memory_tuning, TUNED, headline=SHOWN_MODELS),)),
    Rule("C18", (case("tiny", near_1_75, LAWS, headline=SHOWN_LAWS, scope="published scaling laws"),)),
    Rule("C21", (case("small", three_shapes, SHAPES), case("tiny", three_shapes, SHAPES, headline=SHOWN_SHAPES))),
    Rule("C24", (case("tiny", seen_and_forgotten, IN_PRETRAINING, AT_PAPER_LOSS, scope=ONE_RUN),)),
    Rule("C25", (case("tiny", seen_once, EXPOSED),)),
)
