"""The memory of the live page: the made-up facts of `facts.jsonl` on tiny-llama, and what a browser needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch

from mome import Memory, MomeConfig, RouterSettings, memorize
from mome.adapter.anchors import NEAREST
from mome.adapter.model import MomeModel, mome_model
from mome.facts.readers import read_facts
from mome.facts.typing_key import COURTESIES, GREETINGS, typing_key
from mome.lm.prompts.form import prompt_form
from mome.memory.answers import LONGEST_BACKBONE, LONGEST_MEMORIZED
from mome.memory.checking import ABSTENTION
from mome.memory.memorize import memory_settings
from mome.memory.report import Report

HERE = Path(__file__).parent
BACKBONE = "tiny-llama"
# eight experts a fact instead of 32, and half-precision rows: 3 MB to load instead of 26. The check of names keeps a
# question about an absent name from being taken for a stored one in the same words.
EXPERTS = MomeConfig(top_k=8, dtype="bfloat16", least_names=0.8)
# a router of fewer questions and steps than the default one: with the check of names it does as well here (LOG.md)
ROUTER, ROUTER_QUESTIONS = RouterSettings(steps=150, batch_size=128), 1_500


def trained(seed: int = 0) -> Memory:
    """The facts, memorized on the backbone.

    Raises:
        RuntimeError: a fact is not recalled exactly.
    """
    facts = read_facts(HERE / "facts.jsonl")
    settings = memory_settings(facts, seed=seed)
    memory = memorize(facts, BACKBONE, mome=EXPERTS, router=ROUTER, memory=settings, router_questions=ROUTER_QUESTIONS)
    answers = memory.ask_all([fact.question for fact in facts])
    lost = [fact.question for fact, answer in zip(facts, answers, strict=True) if not answer.memorized]
    if lost:
        raise RuntimeError(f"the memory of the live page has lost {len(lost)} facts, the first is {lost[0]!r}")
    return memory


def tuner(memory: Memory) -> MomeModel:
    """The adapter inside the memory's model."""
    found = mome_model(memory.backbone.model)
    assert found is not None
    return found


def rows_of(memory: Memory) -> tuple[list[int], numpy.ndarray]:
    """The experts that the facts use, ascending, and their rows [n, modules, width] f32, in the bank's order."""
    mome = tuner(memory)
    ids = mome.router.anchors.ids.unique()
    rows = mome.bank.read(ids, torch.device("cpu"))
    return ids.tolist(), torch.stack([rows[name] for name in mome.bank.shapes], dim=1).numpy()


def described(memory: Memory) -> dict[str, Any]:
    """All that the page's script knows beside the arrays: facts, anchors, names, wordings, settings."""
    mome, editor = tuner(memory), memory.editor
    assert editor is not None
    holdings, anchors = editor.holdings, mome.router.anchors
    facts = list(holdings.facts.values())
    place = {fact.id: number for number, fact in enumerate(facts)}
    first = holdings.first_anchors()
    form = prompt_form(memory.backbone.tokenizer)
    return {
        "facts": [{"question": fact.question, "answer": fact.answer} for fact in facts],
        "experts": [anchors.ids[first[fact.id]].tolist() for fact in facts],
        "weights": [anchors.weights[first[fact.id]].tolist() for fact in facts],
        "rows": rows_of(memory)[0],
        "modules": len(mome.bank.shapes),
        "owners": [None if owner is None else place[owner] for owner in holdings.owners],
        "names": _names(mome),
        "typed": _typed(memory),
        "greetings": [" ".join(words) for words in GREETINGS],
        "courtesies": [" ".join(words) for words in COURTESIES],
        "measured": _measured(memory.report),
        "prompt": {"before": form.before, "after": form.after},
        "settings": {
            "min_score": mome.settings.min_score,
            "least_names": mome.settings.least_names,
            "nearest": NEAREST,
            "key_size": mome.settings.key_size,
            "end": memory.backbone.tokenizer.eos_token_id,
            "longest_memorized": LONGEST_MEMORIZED,
            "longest_backbone": LONGEST_BACKBONE,
            "most_tokens": memory.backbone.model.config.max_position_embeddings - 1,
            "abstention": ABSTENTION,
        },
    }


def arrays(memory: Memory) -> bytes:
    """The anchors' queries [F, key_size] and then the rows of `rows_of`, f32, one after the other."""
    queries = tuner(memory).router.anchors.queries.numpy()
    return b"".join(numpy.ascontiguousarray(each, "<f4").tobytes() for each in (queries, rows_of(memory)[1]))


def _measured(report: object) -> dict[str, int]:
    """Counts that the page states: of facts, of those recalled in a known and an untrained wording, of others taken."""
    assert isinstance(report, Report)
    taken = round(report.mistaken * report.unrelated)
    counts = {"facts": len(report.facts), "recalled": sum(report.recalled), "held_out": sum(report.held_out)}
    return {**counts, "unrelated": report.unrelated, "taken": taken}


def _names(mome: MomeModel) -> dict[str, Any]:
    """What the check of names reads: the weight of each word, and the words that each anchor's fact shares."""
    anchors = mome.router.anchors
    anchors.recognize(anchors.queries[:1], ["?"])  # makes `names` of the words
    assert anchors.names is not None
    return {"weights": anchors.names.weights, "shared": [sorted(each.shared) for each in anchors.names.stored]}


def _typed(memory: Memory) -> dict[str, str]:
    """The wording that each `typing_key` stands for; each stands for one here."""
    wordings = [wording for fact in memory.facts for wording in fact.wordings()]
    found = {typing_key(wording): wording for wording in wordings}
    assert len(found) == len(wordings), "two wordings of facts.jsonl differ only in how they are typed"
    return found
