"""Real tuning runs compared with the loss thresholds of `theory`, moment by moment (paper, section 5).

A run is watched: at some epochs every token of every fact is scored and every answer is generated; once in a run,
answers are sampled. Full fine-tuning, LoRA and memory experts are watched in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal
from zlib import crc32

import numpy
import pandas
import torch
from torch.nn import functional

from mome.facts.fact import Fact
from mome.files.records import Amount, Count, Positive, Settings
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import collate, encode_prompts, encode_question
from mome.lm.generation import greedy_answers, hallucinated
from mome.lm.loading import Backbone
from mome.lm.losses import answer_logits, multiply_bf16
from mome.replication.experiments.plan import Recipe
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import routed_backbone, router_facts
from mome.train.experts import memorize_facts
from mome.train.lora import attach_lora
from mome.train.progress import Progress, grouped
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune

Method = Literal["backbone", "lora", "mome"]
METHODS: tuple[Method, ...] = ("backbone", "lora", "mome")
BATCH_ROWS = 32
SAMPLED_ROWS = 1024
SAMPLED_FROM = 0.2
Tables = tuple[pandas.DataFrame, pandas.DataFrame]


class WatchSettings(Settings):
    """How runs are tuned and when they are measured.

    `backbone` tunes all weights, `lora` a LoRA adapter, `mome` memory experts. All are measured before the first epoch,
    after the epochs `moments`, after each with a mean training loss (nats/token) under `closely`, and at the end.
    Answers are sampled once in a run, at the first moment at which sampling is expected to give a fifth of the facts
    (else at its end): for each fact as many as `drawn_tokens` in all allow, one at the least; 0: none.
    """

    backbone: TuningSettings = TuningSettings()
    lora: TuningSettings = TuningSettings()
    mome: Recipe = Recipe()
    moments: tuple[Count, ...] = (1, 2, 4, 8, 16, 32, 64)
    closely: Positive = 0.5
    drawn_tokens: Amount = 10_000


@torch.no_grad()
def token_table(backbone: Backbone, facts: Sequence[Fact]) -> pandas.DataFrame:
    """Every answer token of every fact (end of sequence included), scored after the right tokens before it.

    Columns: fact (its place), position, loss (nats), right (no other token is as probable).
    """
    rows = [encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    parts = []
    for chosen in grouped(order, BATCH_ROWS):
        batch = collate([rows[index] for index in chosen], backbone.tokenizer.pad_token_id, backbone.device)
        logits = answer_logits(backbone.model, batch)  # [B, A, V]
        scored = batch.answer_mask
        loss, right = _scored(logits[scored].float(), batch.ids[:, -batch.answer_tokens :][scored])
        row, column = scored.nonzero().cpu().numpy().T
        position = column - scored.logical_not().sum(dim=1).cpu().numpy()[row]
        fact = numpy.array(chosen)[row]
        parts.append(pandas.DataFrame({"fact": fact, "position": position, "loss": loss, "right": right}))
    return pandas.concat(parts).sort_values(["fact", "position"], ignore_index=True)


def _scored(logits: torch.Tensor, targets: torch.Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Loss (nats) of each target [M] f32 under `logits` [M, V] f32, and whether all other tokens score lower."""
    losses = functional.cross_entropy(logits, targets, reduction="none")
    own = logits.gather(1, targets[:, None])
    return losses.cpu().numpy(), ((logits >= own).sum(dim=1) == 1).cpu().numpy()


def answer_table(backbone: Backbone, facts: Sequence[Fact], tokens: pandas.DataFrame) -> pandas.DataFrame:
    """One row a fact: tokens, loss (S, nats), worst (token, nats), right (all tokens), and its free greedy answer.

    `recalled`: the text of that answer is exactly the gold one; `hallucinated`: it is neither that nor an abstention.
    """
    found = tokens.groupby("fact").agg(
        tokens=("loss", "size"), loss=("loss", "sum"), worst=("loss", "max"), right=("right", "all")
    )
    longest = max(len(encode_question(backbone.tokenizer, fact.question, fact.answer).ids) for fact in facts)
    answers = greedy_answers(backbone.model, backbone.tokenizer, [fact.question for fact in facts], longest)
    recalled = [answer == fact.answer for answer, fact in zip(answers, facts, strict=True)]
    return found.assign(recalled=recalled, hallucinated=hallucinated(answers, facts)).reset_index()


@torch.no_grad()
def sampled_recall(backbone: Backbone, facts: Sequence[Fact], draws: int, seed: int) -> list[float]:
    """For each fact, the share of `draws` answers sampled freely at temperature 1 that are its tokens."""
    generating: Any = backbone.model
    rows = [encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts]
    hits = numpy.zeros(len(facts))
    torch.manual_seed(seed)
    for chosen in grouped([index for index in range(len(facts)) for _ in range(draws)], SAMPLED_ROWS):
        asked = encode_prompts(backbone.tokenizer, [facts[index].question for index in chosen])
        ids, mask, _ = (each.to(backbone.device) for each in asked)
        with multiply_bf16(backbone.device):
            texts = generating.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=max(rows[index].answer_tokens for index in chosen),
                pad_token_id=backbone.tokenizer.pad_token_id,
            )[:, ids.shape[1] :].tolist()
        for index, drawn in zip(chosen, texts, strict=True):
            wanted = list(rows[index].ids[-rows[index].answer_tokens :])
            hits[index] += drawn[: len(wanted)] == wanted
    return (hits / draws).tolist()


class Watcher:
    """Measures a backbone (with what is attached to it) on facts at given epochs, each with `labels`."""

    def __init__(
        self, backbone: Backbone, facts: Sequence[Fact], settings: WatchSettings, labels: dict[str, Any]
    ) -> None:
        self.backbone, self.facts, self.settings, self.labels = backbone, facts, settings, labels
        self.tokens: list[pandas.DataFrame] = []
        self.answers: list[pandas.DataFrame] = []
        self.epoch, self.sampled = -1, settings.drawn_tokens == 0

    def __call__(self, epoch: int, loss: float = math.inf, last: bool = False) -> None:
        """Measure after this epoch, of that mean training loss (nats/token), if it is a moment for it."""
        due = last or epoch == 0 or epoch in self.settings.moments or loss < self.settings.closely
        if due and epoch != self.epoch:
            self.epoch = epoch
            self._measure()
        if due and not self.sampled and (last or numpy.exp(-self.answers[-1]["loss"]).mean() >= SAMPLED_FROM):
            self._sample()

    def _measure(self) -> None:
        self.backbone.model.eval()
        labels = {**self.labels, "epoch": self.epoch}
        tokens = token_table(self.backbone, self.facts)
        answers = answer_table(self.backbone, self.facts, tokens)
        self.tokens.append(tokens.assign(**labels))
        self.answers.append(answers.assign(sampled=math.nan, draws=0, **labels))

    def _sample(self) -> None:
        """The model has not changed since it was measured."""
        answers, self.sampled = self.answers[-1], True
        draws = max(1, self.settings.drawn_tokens // (len(self.facts) * int(answers["tokens"].max())))
        seed = crc32(repr([self.labels, self.epoch]).encode())
        answers["sampled"], answers["draws"] = sampled_recall(self.backbone, self.facts, draws, seed), draws

    def tables(self) -> Tables:
        """All that was measured: tokens, and answers; each row with the labels and its epoch."""
        return pandas.concat(self.tokens, ignore_index=True), pandas.concat(self.answers, ignore_index=True)


def watch_tuning(name: str, facts: Sequence[Fact], method: Method, settings: WatchSettings, **labels: Any) -> Tables:
    """Tune a fresh copy of the backbone `name` on the facts and measure it on the way; see `Watcher.tables`.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
    """
    keep_freed_memory()
    backbone = asked_backbone(name)
    labels = {"backbone": name, "method": method, **labels}
    if method == "mome":
        return _watch_mome(backbone, facts, settings, labels)
    chosen = settings.backbone if method == "backbone" else settings.lora
    if method == "lora":
        model: Any = attach_lora(backbone, LoraSettings(), chosen.seed)
        backbone = Backbone(name, model, backbone.tokenizer)
    else:
        backbone.model.requires_grad_(True)
    watcher = Watcher(backbone, facts, settings, labels)
    watcher(0)
    run = tune(backbone.model, backbone.tokenizer, facts, chosen, on_epoch=watcher)
    watcher(len(run.curve), last=True)
    return watcher.tables()


def watch_untouched(name: str, facts: Sequence[Fact], **labels: Any) -> Tables:
    """The same tables of the backbone as it is, at epoch 0."""
    watcher = Watcher(asked_backbone(name), facts, WatchSettings(drawn_tokens=0), {"backbone": name, **labels})
    watcher(0)
    return watcher.tables()


def _watch_mome(backbone: Backbone, facts: Sequence[Fact], settings: WatchSettings, labels: dict[str, Any]) -> Tables:
    """Both phases as `memorize_mome` runs them."""
    recipe, seed = settings.mome, settings.mome.memory.seed
    train, calibration, _ = router_facts((fact.question for fact in facts), seed, recipe.router_questions)
    tuned, _ = routed_backbone(backbone, recipe.mome, recipe.router, train, seed)
    watcher = Watcher(tuned, facts, settings, labels)

    def watch(progress: Progress) -> None:
        """Before the first epoch, when the first group is taken, no fact has a loss."""
        losses = [values[-1] for values in progress.losses if values]
        watcher(progress.epochs_in_all, float(numpy.mean(losses)) if losses else math.inf, progress.finished)

    others, alarms = [fact.question for fact in calibration], recipe.router.false_alarms
    memorize_facts(tuned.model, tuned.tokenizer, facts, recipe.memory, others=others, false_alarms=alarms, watch=watch)
    return watcher.tables()
