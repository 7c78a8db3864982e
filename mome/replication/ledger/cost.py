"""Rules of the claims on cost and size: capacity, bills, how work grows, collisions, lookups, storage."""

from __future__ import annotations

from mome.replication.ledger.comparing import below, higher, inside, yes_or_no
from mome.replication.ledger.memorizing import COST, FIG2, FIG5
from mome.replication.ledger.rule import Numbers, Rule, Ruling, case
from mome.replication.notebook.results import Verdict

FIG4, SCALING, KERNELS = "05_fig4_architecture", "11_sec7_scaling", "12_sec7_kernels"
AGREE = 1.1  # two numbers agree within a tenth
POINT = 0.01


def fact_a_parameter(found: Numbers) -> Ruling:
    """C08. Reproduced: a parameter holds one fact or more. Contradicted: it holds less, in a bank that is full.

    Not testable here: less, but every fact that was tried was held. Then the number is that of the experiment (facts
    tried for each parameter) and not the model's.
    """
    held, tried = found["held"], found["tried"]
    if held.bounds[0] >= 1:
        return "reproduced", "one fact or more for each parameter"
    if held.value >= tried.value * (1 - POINT):
        return (
            "not testable here",
            "the bank was never full: all facts of the shortest answers that were tried were held",
        )
    return "contradicted", "the bank is full at less than one fact for each parameter"


def bill_adds_up(found: Numbers) -> Ruling:
    """C09. Reproduced: each of the five printed values lies within a tenth of what the paper's own numbers give.

    Mixed: at least two do. Contradicted: fewer.
    """
    agree = [name for name, ratio in found.items() if 1 / AGREE <= ratio.value <= AGREE]
    why = f"{len(agree)} of {len(found)} printed values follow from its own numbers ({', '.join(agree) or 'none'})"
    return ("reproduced" if len(agree) == len(found) else "mixed" if len(agree) >= 2 else "contradicted"), why


def cost_of_a_fact(found: Numbers) -> Ruling:
    """C11. Reproduced: FLOPs grow as the facts do, and neither with the number of experts nor with the backbone.

    As the facts: the slope's interval lies within 0.1 of 1. Not with the experts: at most 1% more for sixteen times as
    many, and at most a tenth more work and bytes a step for a thousand times as many. Not with the backbone: at most
    1% more. Mixed: only the backbone counts. Contradicted: the facts or the experts do not come out so.
    """
    with_facts = inside(found["slope"], 0.9, 1.1)
    without_experts = found["experts"].value <= 1 + POINT and max(found["step"].value, found["bytes"].value) <= AGREE
    if not (with_facts and without_experts):
        return "contradicted", f"as the facts: {with_facts}; independent of the number of experts: {without_experts}"
    times = found["large"].value / found["tiny"].value
    if times <= 1 + POINT:
        return "reproduced", "work follows the facts alone"
    return (
        "mixed",
        f"not with the number of experts, but with the backbone: {times:,.0f} times the FLOPs on a Llama 3 8B",
    )


def freezing_helps(found: Numbers) -> Ruling:
    """C12. The paper's phase 1, with the router frozen afterwards and with the router trained along with the experts.

    That a frozen router gives a fact the same experts at every step is by construction; whether it helps is measured,
    by recall and by right answers elsewhere, each by more than a point with intervals apart. Reproduced: frozen is
    better in one and worse in none. Contradicted: worse in one and better in none. True by construction: neither, and
    both values within a point. Mixed: else.
    """
    pairs = [(found[f"frozen_{name}"], found[f"moving_{name}"]) for name in ("recall", "kept")]
    better = any(higher(frozen, moving, POINT) for frozen, moving in pairs)
    worse = any(higher(moving, frozen, POINT) for frozen, moving in pairs)
    if better != worse:
        return ("reproduced", "freezing helps") if better else ("contradicted", "trained along, the router does better")
    if not better and all(abs(frozen.value - moving.value) <= POINT for frozen, moving in pairs):
        return "true by construction", "the same experts at every step follow from freezing; it makes no difference"
    return "mixed", "no clear difference, or one each way"


def quick_lookup(found: Numbers) -> Ruling:
    """C13. Reproduced: the lookup ran by the Triton kernels on a GPU, with fewer FLOPs than a token of the backbone.

    Contradicted: the lookup takes at least as many FLOPs as a token. Not testable here: fewer, but no GPU ran it.
    """
    share = found["lookup"].value / found["token"].value
    if share >= 1:
        return "contradicted", f"{share:.2g} times the FLOPs of a token"
    if found["gpu"].value < 1:
        return "not testable here", f"{share:.3f} of a token's FLOPs, but the kernels were never timed on a GPU"
    return "reproduced", f"{share:.3f} of a token's FLOPs, by the Triton kernels on a GPU"


def best_in_an_hour(found: Numbers) -> Ruling:
    """C16. Reproduced: above the best published score after at most an hour on 8 MI300X.

    Contradicted: below that score. Mixed: above it after more than an hour, or the intervals overlap.
    """
    ours, best = found["ours"], found["best"]
    if higher(ours, best):
        return ("reproduced", "in an hour") if below(found["hours"], 1) else ("mixed", "after more than an hour")
    return ("contradicted", "below the best published") if higher(best, ours) else ("mixed", "the intervals overlap")


def hundred_epochs(found: Numbers) -> Ruling:
    """C20. Reproduced: both halves hold. 35 days on 2,000 GPUs are within 5% of what Llama 2's authors report; and all
    epochs of a full fine-tuning take as many FLOPs as the first times their number, within 1% (whole interval).

    Mixed: one half holds. Contradicted: none.
    """
    halves = [inside(found["days"], 0.95, 1.05), inside(found["epochs"], 1 - POINT, 1 + POINT)]
    report, first = map(yes_or_no, halves)
    why = f"the 35 days fit Llama 2's report: {report}; each epoch costs as much as the first: {first}"
    return ("reproduced" if all(halves) else "mixed" if any(halves) else "contradicted"), why


def storage_alone(found: Numbers) -> Ruling:
    """C27. From a thousand experts to a million: what grows besides storage?

    Reproduced: a step's FLOPs and bytes grow by at most a tenth, and the lookup stays below a token of the backbone.
    Contradicted: neither holds. Mixed: one does.
    """
    level = max(found["step"].value, found["bytes"].value) <= AGREE
    share = found["lookup"].value / found["token"].value
    why = f"a step's work does not grow: {yes_or_no(level)}; "
    why += f"the lookup takes {share:.3f} of a token's FLOPs (up to 1,048,576)"
    return ("reproduced" if level and share < 1 else "mixed" if level or share < 1 else "contradicted"), why


FULL = {
    "held": (SCALING, "facts_per_parameter_max_2_characters", "facts held per parameter, answers of 2 characters"),
    "tried": (SCALING, "facts_per_parameter_tried_2_characters", "facts tried per parameter"),
}
BITS = {
    "bits": (SCALING, "bits_per_parameter_max_32_characters", "bits held per parameter, answers of 32 characters"),
}
BILL = {
    title: (COST, f"ratio_{name}", f"printed {title} over derived")
    for name, title in (
        ("flops", "FLOPs"), ("time", "time"), ("power", "power"), ("dollars", "dollars"), ("households", "households")
    )
}  # fmt: skip
STEP = {
    "step": (SCALING, "step_flops_ratio_1M_1k", "FLOPs of a step, 1M experts over 1k"),
    "bytes": (SCALING, "step_bytes_ratio_1M_1k_same_rows", "bytes of a step, 1M over 1k"),
}
GROWTH = {
    "slope": (COST, "slope_flops", "FLOPs grow as facts to the power"),
    "experts": (COST, "flops_by_experts", "FLOPs at 1,048,576 experts over 65,536"),
    **STEP,
    "large": (COST, "flops_8b_1000000000", "FLOPs of a billion facts, Llama 3 8B"),
    "tiny": (COST, "flops_1000000000", "tiny-llama"),
}
WRITTEN = {
    "touched": (FIG4, "experts_touched", "experts written for a few facts"),
    "shared": (FIG4, "experts_shared", "of these, serving two facts"),
}
ABLATION = {
    f"{short}_{key}": (FIG5, f"ablation_{recipe}_{column}", f"{words}, {title}")
    for key, column, words in (("recall", "recall", "recall"), ("kept", "general_accuracy", "right answers elsewhere"))
    for short, recipe, title in (
        ("frozen", "phase_1_as_the_paper_says", "frozen"), ("moving", "router_not_frozen", "trained along")
    )
}  # fmt: skip
COLLISIONS = {
    f"shared_{count}": (SCALING, f"shared_rows_256_{count}", f"rows shared by facts, N = {count}")
    for count in (1024, 1048576)
} | WRITTEN
LOOKUP = {
    "lookup": (KERNELS, "flops_product_key", "FLOPs of the lookup among 1,000,000"),
    "token": (KERNELS, "flops_token", "of a token"),
    "gpu": (KERNELS, "lookup_on_gpu", "benchmarks that hold the Triton lookup on a GPU"),
}
SCALED_LOOKUP = {
    "lookup": (SCALING, "lookup_flops_product_key_1048576", "FLOPs of the lookup among 1,048,576"),
    "token": (SCALING, "token_flops", "of a token of the backbone"),
}
SAME_LOOKUP = {f"scaled_{key}": words for key, words in SCALED_LOOKUP.items()}
RECORD = {
    "ours": (SCALING, "factual_recall_benchmark_ours", "score on a benchmark of factual recall"),
    "best": (SCALING, "factual_recall_benchmark_best_published", "best published"),
    "hours": (SCALING, "hours_of_8_mi300x", "hours of 8 MI300X"),
}
FORECAST = {"forecast": (COST, "hours_8_mi300x_1000000", "forecast for a million facts")}
EPOCHS = {
    "days": (COST, "ratio_llama_time", "35 days on 2,000 GPUs over Llama 2's GPU hours"),
    "epochs": (COST, "flops_of_epochs_over_first_full", "FLOPs of an epoch over the first's"),
}
READ = {
    name: (FIG2, f"tokens_of_all_epochs_{name}", f"tokens of 40 epochs over the first's, {name}")
    for name in ("tiny-llama", "tiny-mistral")
}
FOUR: tuple[Verdict, ...] = ("reproduced", "mixed", "contradicted", "true by construction")
RULES = (
    Rule("C08", (case("tiny", fact_a_parameter, FULL, BITS),), ("reproduced", "contradicted")),
    Rule("C09", (case("tiny", bill_adds_up, BILL, scope="arithmetic on the paper's own numbers"),)),
    Rule("C11", (case("tiny", cost_of_a_fact, GROWTH, WRITTEN, ("slope", "experts", "step", "large", "tiny")),)),
    Rule(
        "C12",
        (case("small", freezing_helps, ABLATION, WRITTEN), case("tiny", freezing_helps, ABLATION, COLLISIONS)),
        FOUR,
    ),
    Rule("C13", (case("tiny", quick_lookup, LOOKUP, SAME_LOOKUP),), ("reproduced", "contradicted")),
    Rule("C16", (case("tiny", best_in_an_hour, RECORD, FORECAST),)),
    Rule("C20", (case("tiny", hundred_epochs, EPOCHS, READ),)),
    Rule("C27", (case("tiny", storage_alone, {**STEP, **SCALED_LOOKUP}),)),
)
