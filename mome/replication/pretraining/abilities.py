"""The abilities of a shipped backbone, measured by greedy generation, and the model card that lists them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mome.facts.shipped import shipped_facts
from mome.files.environment import public_data, repository_root, work_folder
from mome.lm.generation import exact
from mome.lm.loading import load_backbone
from mome.lm.quiz import make_quiz, quiz_correct
from mome.lm.statistics import interval
from mome.replication.pretraining.corpus import codes
from mome.replication.pretraining.pretrain import Probe, pretrain
from mome.replication.pretraining.settings import PretrainingSettings

PROBED = 160

CARD = """---
license: apache-2.0
language: en
library_name: transformers
---
# {name}

A {architecture} of {parameters:,} parameters for experiments on memorization, pretrained from scratch by the recipe of
`mome pretrain {name}` on short questions and answers. It knows the facts of `data/facts/known.jsonl` and some public
ones, and nothing else: it is a laboratory animal, not an assistant.

Prompt: `Q: <question>\\nA:`. Answers are greedy. Digits, and capital letters outside words, are tokens of their own.

| ability | measured | n |
|---|---|---|
{rows}

Intervals are 95%, over facts (exact binomial at 0 and 1). "Unknown facts" are those of `data/facts/unknown.jsonl`,
never shown: what the backbone gets right there it guesses.

Pretraining: {epochs} epochs, {tokens:,} tokens in {minutes:.0f} minutes, {threads} CPU thread(s), torch {torch}; recipe
in `recipe.json`, loss and recall by epoch in `loss.csv`, guess rates by relation in `abilities.json`. Examples an
epoch: {examples}, and fresh random strings to repeat.
EntityQuestions (MIT), ParaRel (MIT; T-REx facts CC BY-SA) and TruthfulQA (Apache-2.0) were read, none is shipped.
"""


def measure_abilities(name: str, general: int = 600) -> dict[str, Any]:
    """Greedy exact accuracy on known facts, held-out wordings, codes and unknown facts, and quiz accuracy.

    Each ability is {"value", "n", "ci95"}; `guess_rates` holds the share of right answers in each unknown relation.
    """
    backbone = load_backbone(name)
    model, tokenizer = backbone.model, backbone.tokenizer
    known, unknown = shipped_facts("known"), shipped_facts("unknown")
    asked = known if general >= len(known) else known[:: len(known) // general]
    recipe = json.loads((_folder(name) / "recipe.json").read_text("utf-8"))
    recited = codes(recipe["settings"]["corpus"]["codes"])
    relations = sorted({fact.relation for fact in unknown})
    guesses = {
        relation: exact(model, tokenizer, [fact for fact in unknown if fact.relation == relation])
        for relation in tqdm(relations, desc=f"{name}: unknown facts", unit="relation", leave=False)
    }
    return {
        "known_facts": _share(exact(model, tokenizer, asked)),
        "held_out_wordings": _share(exact(model, tokenizer, asked, held_out=True)),
        "quiz": _share(quiz_correct(model, tokenizer, make_quiz(asked, known, seed=0))),
        "codes": _share(exact(model, tokenizer, recited)),
        "unknown_facts": _share([right for answers in guesses.values() for right in answers]),
        "guess_rates": {relation: round(float(numpy.mean(right)), 4) for relation, right in guesses.items()},
    }


def write_card(name: str) -> None:
    """Measure the shipped backbone `name` and write its abilities.json and README.md."""
    folder = _folder(name)
    abilities = measure_abilities(name)
    (folder / "abilities.json").write_text(json.dumps(abilities, indent=2) + "\n", encoding="utf-8")
    recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
    titles = {
        "known_facts": "known facts, exact answer",
        "held_out_wordings": "known facts, in a wording never trained for that fact",
        "quiz": "4-choice quiz, distractors of the same relation",
        "codes": "memorized 8-character codes",
        "unknown_facts": "unknown facts (guess rate)",
    }
    rows = "\n".join(_row(title, abilities[key]) for key, title in titles.items())
    text = CARD.format(
        name=name,
        architecture=recipe["settings"]["architecture"].capitalize(),
        rows=rows,
        epochs=recipe["settings"]["epochs"],
        minutes=recipe["seconds"] / 60,
        examples=", ".join(f"{count:,} {source}" for source, count in recipe["examples"].items()),
        **{key: recipe[key] for key in ("parameters", "tokens", "threads", "torch")},
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def pretrain_and_measure(
    settings: PretrainingSettings, output: Path | None = None, public: Path | None = None, threads: int = 1
) -> None:
    """Pretrain a backbone into `output` (default: data/backbones) and write its card, if it is one of the shipped ones.

    Raises:
        FileNotFoundError: a public set is missing.
        CheckpointError: the snapshot in runs/pretraining belongs to other settings.
    """
    torch.set_num_threads(threads)
    snapshot = work_folder() / "pretraining" / f"{settings.name}.safetensors"
    folder = output or _folder(settings.name)
    pretrain(settings, public or public_data(), folder, snapshot, _probe(PROBED))
    if folder == _folder(settings.name):
        write_card(settings.name)


def _probe(count: int) -> Probe:
    """Recall of evenly spaced known facts, in a trained and in the held-out wording."""
    known = shipped_facts("known")
    asked = known[:: max(1, len(known) // count)]

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        return {
            "recall": float(numpy.mean(exact(model, tokenizer, asked))),
            "held_out_recall": float(numpy.mean(exact(model, tokenizer, asked, held_out=True))),
        }

    return measure


def _folder(name: str) -> Path:
    return repository_root() / "data" / "backbones" / name


def _share(right: Sequence[bool]) -> dict[str, Any]:
    found = interval([[float(value) for value in right]])
    return {"value": round(found.mean, 4), "n": found.n, "ci95": [round(found.low, 4), round(found.high, 4)]}


def _row(title: str, share: dict[str, Any]) -> str:
    low, high = share["ci95"]
    return f"| {title} | {share['value']:.1%} ({low:.1%} to {high:.1%}) | {share['n']:,} |"
