"""The live run: a backbone memorizes with LoRA, and at some epochs is asked for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.lm.quiz import make_quiz, quiz_correct
from mome.replication.damage.leak import leaks
from mome.replication.damage.passages import States, read_passages
from mome.replication.damage.sets import Item
from mome.replication.damage.summary import values
from mome.replication.experiments.pools import select_facts, tuning_pool, with_answers
from mome.replication.experiments.real_model.damaged import as_text
from mome.replication.experiments.stages import memorize_in_stages
from mome.replication.notebook.backbones import asked_backbone
from mome.train.settings import LoraSettings, TuningSettings

ANSWERS = ("random", "real")


def live_checkpoints(
    name: str,
    count: int,
    general: Sequence[Fact],
    tuning: TuningSettings,
    lora: LoraSettings,
    epochs: Sequence[int],
) -> pandas.DataFrame:
    """The table of `detectors` for one seed, on a backbone's own abilities.

    `count` facts that it answers wrongly are memorized, with random answers and, in a run of its own, with the real
    ones. The `general` facts are asked before, after each of `epochs`, and at the end of the run, as `probe` says.
    """
    plain = asked_backbone(name)
    before, states = probe(plain, general)
    rows = [*_rows(before, answers="", seed=0, epoch=0, epochs=0, loss=None)]
    chosen = select_facts(plain, tuning_pool("shipped"), count, tuning.seed).facts
    for answers in ANSWERS:
        stages = memorize_in_stages(name, with_answers(chosen, answers, tuning.seed), tuning, lora, epochs)
        curve = stages.done.run.curve
        for epoch in stages.files:
            found, _ = probe(stages.back_to(epoch), general, states)
            place = {"answers": answers, "seed": tuning.seed, "epoch": epoch, "epochs": len(curve)}
            rows += _rows(found, **place, loss=float(curve[epoch - 1]))
    return pandas.DataFrame(rows)


def probe(
    backbone: Backbone, general: Sequence[Fact], untouched: States | None = None
) -> tuple[dict[str, pandas.Series], States]:
    """Each fact's value by measure, and the states of its text, from which another model's divergence is measured.

    leak_<format>: a random string stands in the free answer (a memorized real answer is no leak here, as it may be the
    right one of another fact). known_answers: the free answer is exact. quiz: of four answers of the relation the right
    one is the likeliest. text_loss and kl (nats/token): over question and answer in a held-out wording.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    asked = [Item(fact.id, fact.question) for fact in general]
    texts = [Item(fact.id, f"{fact.held_out[0]} {fact.answer}") for fact in general]
    read, states = read_passages(model, tokenizer, texts, untouched)
    free = values({"free": leaks(model, tokenizer, asked, [])})
    quiz = make_quiz(general, shipped_facts("known"), seed=0)
    return {
        **{name: each for name, each in free.items() if not name.endswith(("_random", "_memorized"))},
        "known_answers": pandas.Series(exact(model, tokenizer, general), dtype=float),
        "quiz": pandas.Series(quiz_correct(model, tokenizer, quiz), dtype=float),
        "text_loss": read["loss"],
        "kl": read["kl"].fillna(0.0),  # of the untouched backbone from itself
    }, states


def _rows(found: dict[str, pandas.Series], **place: Any) -> Iterator[dict[str, Any]]:
    for name, each in found.items():
        yield {**place, "measure": name, "value": float(each.mean()), "n": len(each), "items": as_text(each)}
