"""The hypothetical figure 6 of the paper, measured (appendix B): key facts, other text and held-out text in each model.

One LoRA run on key facts mixed with other text is measured after every epoch; it passes through an underfit model, the
one that generalizes best, and an overfit one. Memory tuning puts the key facts into experts beside the second of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import pandas
import torch
from tqdm.auto import tqdm

from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.files.records import Count, Settings
from mome.lm.allocator import keep_freed_memory
from mome.lm.generation import exact
from mome.lm.loading import Backbone, identity
from mome.lm.losses import fact_losses
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import select_facts, tuning_pool, with_answers
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import router_facts, trained_memory
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune

TEXTS = ("key", "other", "eval")
MOMENTS = ("underfit", "generalizing", "overfit")
MODELS = ("untouched", *MOMENTS, "memory-tuned", "memory-tuned from untouched")
Weights = dict[str, torch.Tensor]


class MemoryTuningPlan(Settings):
    """Everything that decides the models: `tuning` and `lora` of the mixed run, `underfit` epochs, `memory` experts."""

    tuning: TuningSettings = TuningSettings()
    lora: LoraSettings = LoraSettings()
    underfit: Count = 1
    memory: Recipe = Recipe()


@dataclass(frozen=True, slots=True)
class Texts:
    """What is trained on, `key` facts and `other` text, and `held_out`: facts of the same kinds that nothing trains on.

    Half of `other` and of `held_out` are facts that the shipped backbones know, half facts that they never saw. No fact
    is in two parts. `held_out` is asked in its held-out wording, the others in their first. `known`: known ids.
    """

    key: list[Fact]
    other: list[Fact]
    held_out: list[Fact]
    known: frozenset[str] = frozenset()

    def asked(self) -> dict[str, list[Fact]]:
        """The facts of each of `TEXTS` with the question as it is asked."""
        held_out = [replace(fact, question=fact.held_out[0]) for fact in self.held_out]
        return dict(zip(TEXTS, (self.key, self.other, held_out), strict=True))


@dataclass(frozen=True, slots=True)
class Mixed:
    """The mixed run: `losses` as `losses_of` gives them with a column epoch (0: untouched), weights at three moments.

    `moments` maps each of `MOMENTS` to its epoch, `weights` to the adapter's weights after it.
    """

    losses: pandas.DataFrame
    moments: dict[str, int] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict, repr=False)


def draw_texts(backbone: Backbone, answers: str, facts: int, other: int, held_out: int, seed: int) -> Texts:
    """Draw by `seed` `facts` key facts that the backbone answers wrongly, `other` text and `held_out` text.

    The key facts have their "real" answers or "random" ones; all other facts have their own.

    Raises:
        ValueError: the shipped facts are too few.
    """
    key = select_facts(backbone, tuning_pool("shipped"), facts, seed).facts
    taken = {fact.id for fact in key}
    known, unknown = shipped_facts("known"), [fact for fact in shipped_facts("unknown") if fact.id not in taken]
    told, kept = split(known, [other // 2, held_out // 2], seed)[:2]
    new, unseen = split(unknown, [other - other // 2, held_out - held_out // 2], seed)[:2]
    names = frozenset(fact.id for fact in (*told, *kept))
    return Texts(with_answers(key, answers, seed), [*told, *new], [*kept, *unseen], names)


def losses_of(backbone: Backbone, texts: Texts) -> pandas.DataFrame:
    """Mean loss of each fact's answer tokens: a row a fact with text (of `TEXTS`), known, fact, loss (nats/token).

    `known` says whether the shipped backbones were pretrained on the fact; `fact` is its id.
    """
    parts = []
    for text, facts in texts.asked().items():
        losses = [float(found.mean()) for found in fact_losses(backbone.model, backbone.tokenizer, facts)]
        names = [fact.id for fact in facts]
        columns = {"text": text, "known": [name in texts.known for name in names], "fact": names, "loss": losses}
        parts.append(pandas.DataFrame(columns))
    return pandas.concat(parts, ignore_index=True)


def tune_mixed(name: str, texts: Texts, plan: MemoryTuningPlan) -> Mixed:
    """Tune a fresh LoRA on key facts and other text together, measured after every epoch.

    Underfit is the model after `plan.underfit` epochs (or the last, if that is before), generalizing that after the
    epoch of the lowest mean eval loss (the first of such), overfit the last.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
    """
    keep_freed_memory()
    tuning, plain = plan.tuning, asked_backbone(name)
    model: Any = attach_lora(plain, plan.lora, tuning.seed)
    backbone = Backbone(name, model, plain.tokenizer)
    parts = [losses_of(backbone, texts).assign(epoch=0)]
    done, lowest = Mixed(parts[0]), float("inf")

    def measure(epoch: int, _: float) -> None:
        nonlocal lowest
        model.eval()
        parts.append(losses_of(backbone, texts).assign(epoch=epoch))
        held_out = mean_loss(parts[-1], "eval")
        due = {"underfit": epoch <= plan.underfit, "generalizing": held_out < lowest, "overfit": True}
        lowest = min(lowest, held_out)
        now = {key: value.detach().clone() for key, value in _trained(model).items()}
        for moment in (moment for moment, is_due in due.items() if is_due):
            done.moments[moment], done.weights[moment] = epoch, now

    tune(model, plain.tokenizer, [*texts.key, *texts.other], tuning, on_epoch=measure)
    return replace(done, losses=pandas.concat(parts, ignore_index=True))


def mean_loss(losses: pandas.DataFrame, text: str) -> float:
    """Mean over the facts of one of `TEXTS` (nats/token)."""
    return float(losses.loc[losses["text"] == text, "loss"].mean())


def _trained(model: Any) -> Weights:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def merged(name: str, weights: Weights, plan: MemoryTuningPlan) -> Backbone:
    """A fresh copy of the backbone `name` with the `weights` of a LoRA adapter added to its own, frozen."""
    plain = asked_backbone(name)
    model: Any = attach_lora(plain, plan.lora, plan.tuning.seed)
    model.load_state_dict(weights, strict=False)
    return Backbone(name, model.merge_and_unload().requires_grad_(False).eval(), plain.tokenizer)


def memory_tune(backbone: Backbone, weights: Weights, texts: Texts, recipe: Recipe) -> Backbone:
    """Put memory experts with the key facts beside `backbone`, changing it in place; both phases.

    The router is never shown the key facts or the held-out text. `weights`: what was merged into the backbone of this
    name, empty where nothing was; they tell the kept routers apart.
    """
    which = f"{identity(backbone)} with {_digest(weights)}" if weights else identity(backbone)
    unseen = [fact.question for fact in (*texts.key, *texts.held_out)]
    train, calibration, _ = router_facts(unseen, recipe.memory.seed, recipe.router_questions)
    done = trained_memory(
        backbone,
        texts.key,
        recipe.mome,
        recipe.router,
        recipe.memory,
        learn_from=train,
        others=[fact.question for fact in calibration],
        which=which,
    )
    return done.backbone


def _digest(weights: Weights) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        found.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def measure_models(name: str, texts: Texts, mixed: Mixed, plan: MemoryTuningPlan) -> pandas.DataFrame:
    """All of `MODELS` on all of `TEXTS`: the columns of `losses_of`, model, epoch (of the mixed run it starts from).

    For key facts also `recalled` and `recalled_other_words`: whether free greedy decoding gives the exact answer, to
    the question as tuned and in its held-out wording (NaN for other text).
    """
    parts = []
    for title in tqdm(MODELS, desc="models", unit="model", leave=False):
        moment = "generalizing" if title == "memory-tuned" else title
        weights = mixed.weights.get(moment, {})
        backbone = merged(name, weights, plan) if weights else asked_backbone(name)
        if title.startswith("memory-tuned"):
            backbone = memory_tune(backbone, weights, texts, plan.memory)
        found = losses_of(backbone, texts).assign(model=title, epoch=mixed.moments.get(moment, 0))
        key = found["text"] == "key"
        for column, held_out in (("recalled", False), ("recalled_other_words", True)):
            right = exact(backbone.model, backbone.tokenizer, texts.key, held_out=held_out)
            found.loc[key, column] = [float(each) for each in right]
        parts.append(found)
    return pandas.concat(parts, ignore_index=True)
