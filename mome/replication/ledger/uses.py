"""Rules of the claims on what memory experts are good for: databases, editing, benchmarks of factuality."""

from __future__ import annotations

from mome.replication.ledger.comparing import below, higher
from mome.replication.ledger.forgetting import TAB1
from mome.replication.ledger.rule import Numbers, Rule, Ruling, case

SQL, EDITING = "15_text_to_sql", "16_sec10_editing"
READERS = ("rag", "rag_bare")  # retrieval whose SQL a model writes; "rag_copy" returns what was stored
WRITES = 0.05  # a model that writes right SQL in fewer cases than this does not write SQL
RELIABLE, LOCAL, ROWS = 0.99, 0.995, 64


def sql_with_retrieval(found: Numbers) -> Ruling:
    """C15. Reproduced: MoME with retrieval is right in at least 90%, the best retrieval alone in at most 60%.

    Mixed: it only beats the best retrieval, intervals apart. Contradicted: it does not. Not testable here: no model
    that reads what retrieval found writes right SQL in 5% of the cases, so retrieval alone had no language model.
    """
    if all(below(found[name], WRITES) for name in READERS):
        return "not testable here", "a backbone of this size writes no SQL from what it reads; copied SQL is no rival"
    joined, alone = (
        found["mome_rag"],
        max((found[name] for name in (*READERS, "rag_copy")), key=lambda each: each.value),
    )
    if joined.value >= 0.9 and alone.value <= 0.6:
        return "reproduced", "at least 90% against at most 60%"
    return ("mixed", "better, but less so") if higher(joined, alone) else ("contradicted", "no better than retrieval")


def precise_edits(found: Numbers) -> Ruling:
    """C22. A thousand edits in turn. Reproduced: at least 99% of the new answers and 99.5% of the others hold, the
    median live edit writes at most 64 rows of the bank, and taking edits back restores every bit.

    Mixed: only edits made alone reach both shares, and rollback is exact. Contradicted: else.
    """
    if found["exact"].value < 1:
        return "contradicted", "an edit taken back does not restore every bit"
    if _reaches(found, "all") and found["rows"].value <= ROWS:
        return "reproduced", "new answers hold, others stay, few rows are written, rollback is exact"
    return ("mixed", "edits made alone hold") if _reaches(found, "alone") else ("contradicted", "edits do not hold")


def _reaches(found: Numbers, which: str) -> bool:
    # a mean over seeds may be a rounding below the share it stands for
    return found[f"reliable_{which}"].value >= RELIABLE - 1e-9 and found[f"local_{which}"].value >= LOCAL - 1e-9


def fewer_hallucinations(found: Numbers) -> Ruling:
    """C26. Reproduced: with memory experts the scores of TruthfulQA and of MMLU are higher, intervals apart.

    Contradicted: neither is higher, by the value. Mixed: else.
    """
    pairs = [(found[f"{name}_after"], found[f"{name}_before"]) for name in ("mc1", "mmlu")]
    if all(higher(after, before) for after, before in pairs):
        return "reproduced", "both benchmarks rise"
    if all(after.value <= before.value for after, before in pairs):
        return "contradicted", "no benchmark rises"
    return "mixed", "not both rise, intervals apart"


RIGHT = {
    name: (SQL, f"execution_accuracy_{name}", words)
    for name, words in (
        ("mome_rag", "right results, MoME + RAG"),
        ("rag", "RAG with a trained reader"),
        ("rag_bare", "RAG, untrained"),
        ("rag_copy", "retrieved SQL copied"),
    )
}
BESIDE = {
    name: (SQL, f"execution_accuracy_{name}", f"right results, {name}") for name in ("lora", "mome", "mome_else_copy")
}
EDITS = {
    "reliable_all": (EDITING, "edit_reliability_1000_mome", "after 1,000 edits: new answers given"),
    "local_all": (EDITING, "edit_locality_1000_mome", "other answers unchanged"),
    "rows": (EDITING, "edit_rows_live", "rows written by a live edit (median)"),
    "exact": (EDITING, "edit_rollback_bit_exact", "rollback restores every bit"),
    "reliable_alone": (EDITING, "edit_reliability_1_mome", "after one edit: new answer given"),
    "local_alone": (EDITING, "edit_locality_1_mome", "other answers unchanged"),
}
FURTHER = {
    "generality": (EDITING, "edit_generality_1000_mome", "after 1,000 edits: in paraphrases"),
    "portability": (EDITING, "edit_portability_1000_mome", "one step further"),
    "index": (EDITING, "edit_reliability_1000_index", "search index: new answers given"),
    "lora": (EDITING, "edit_reliability_1000_lora", "LoRA: new answers given"),
}
SCORES = {
    f"{name}_{when}": (TAB1, f"{name}_{state}", f"{title}, {words}")
    for name, title in (("mc1", "TruthfulQA MC1"), ("mmlu", "MMLU"))
    for when, state, words in (("before", "before", "untouched"), ("after", "mome", "its facts memorized by experts"))
}
RULES = (
    Rule("C15", (case("tiny", sql_with_retrieval, RIGHT, BESIDE),)),
    Rule("C22", (case("tiny", precise_edits, EDITS, FURTHER),)),
    Rule("C26", (case("small", fewer_hallucinations, SCORES),)),
)
