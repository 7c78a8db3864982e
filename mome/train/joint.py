"""Router and experts trained together on the answers: the ablation "router not frozen".

Each pass reads the prompts anew. The router learns through the weights of the experts that it chooses, so a fact's
experts may change from step to step. There are no anchors, no rejection threshold, and no states or routes computed
ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from transformers import PreTrainedTokenizerBase

from mome.adapter.model import mome_model
from mome.facts.fact import Fact
from mome.lm.allocator import keep_freed_memory
from mome.train.fact_trainer import JointTrainer
from mome.train.progress import Progress
from mome.train.settings import MemorySettings
from mome.train.tuning import TuningRun


@dataclass
class JointRun(TuningRun):
    """The measurements of joint training: `losses` [epochs, facts] f32, `worst` and `failed` as in `MemoryRun`.

    `kept` [epochs - 1] f32: the share of a fact's K experts that it also had in its previous training step, as a mean
    over facts, for each epoch from the second on (1 with a frozen router). `kept_at_end`: the share of its first
    experts that it still has in the final check. `visits`: number of training rows; `rounds`: number of checks.
    """

    worst: numpy.ndarray
    failed: list[str]
    visits: int
    rounds: int
    kept: numpy.ndarray
    kept_at_end: float


def train_jointly(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    settings: MemorySettings,
    router_learning_rate: float = 2e-4,
    repairs: int = 0,
) -> JointRun:
    """Train router and experts of a MoME model together until every fact's worst answer token was under its target.

    The ablation of phase 2 in which the router is not frozen; a fact leaves as there, but the router that the others
    still train also moves the experts of those that have left.

    Args:
        model: a PEFT model with a MoME adapter; its anchors and threshold are dropped, its router frozen at the end.
        tokenizer: the model's tokenizer.
        facts: question and first `wordings` - 1 phrasings of each are tuned, all facts in one group.
        settings: when a fact is done, epochs, batch size, optimizer and learning rate of the rows, seed.
        router_learning_rate: of the router's AdamW; by default the paper's one rate (appendix A).
        repairs: how often facts that a check by their final routes finds disturbed are trained again, in place of
            `settings.repairs`; 0: the check only reports them.

    Raises:
        ValueError: no facts, no MoME adapter, a router that cannot learn, or augmentations, which need cached states.
        FloatingPointError: a loss became NaN or infinite.
    """
    mome = mome_model(model)
    if mome is None or not facts:
        raise ValueError("train_jointly: no facts" if mome else "train_jointly: the model has no MoME adapter")
    for name in ("prompt_dropout", "state_noise"):
        if getattr(settings, name):
            raise ValueError(f"train_jointly: {name} must be 0 here, got {getattr(settings, name)}")
    keep_freed_memory()
    mome.router.anchors.forget()
    mome.set_min_score(None)
    one_group = settings.model_copy(update={"group_size": len(facts), "repairs": repairs})
    trainer = JointTrainer(model, tokenizer, facts, one_group, router_learning_rate)
    progress = Progress.start(len(facts), len(facts))
    with trainer.learning():
        trainer.train(progress)
    failed = [facts[index].id for index in progress.failed]
    worst = numpy.asarray(progress.worst, dtype=numpy.float32)
    counts = progress.visits, progress.rounds
    kept = numpy.asarray(trainer.kept, dtype=numpy.float32), trainer.kept_at_end
    return JointRun(progress.curves(), progress.seconds, worst, failed, *counts, *kept)
