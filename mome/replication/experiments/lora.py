"""Facts memorized with LoRA, from a snapshot where there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mome.facts.fact import Fact
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.lm.loading import Backbone, identity
from mome.replication.experiments.plan import Memorized
from mome.replication.notebook.backbones import asked_backbone
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune


def memorize(
    name: str,
    facts: Sequence[Fact],
    tuning: TuningSettings,
    lora: LoraSettings,
    snapshot: Path | None = None,
    on_epoch: Callable[[Any, int], None] | None = None,
) -> Memorized:
    """Tune a fresh LoRA on a fresh copy of the backbone `name`, or go on from (or take) this run's snapshot.

    `snapshot` is another file to go on from; `on_epoch` gets the model and the number (from 1) of each epoch that runs.
    """
    backbone = asked_backbone(name)
    model: Any = attach_lora(backbone, lora, tuning.seed)
    path = snapshot or work_folder() / "tuning" / f"{run_key(backbone, facts, tuning, lora)}.safetensors"
    watch = (lambda epoch, _: on_epoch(model, epoch)) if on_epoch else None
    run = tune(model, backbone.tokenizer, facts, tuning, path, _labels(backbone, lora), watch)
    return Memorized(Backbone(name, model, backbone.tokenizer), run, list(facts))


def run_key(backbone: Backbone, facts: Sequence[Fact], tuning: TuningSettings, lora: LoraSettings) -> str:
    """16 digits that name a run: everything that decides its outcome."""
    answers = [fact.id + fact.answer for fact in facts]
    return text_sha256(json.dumps([_labels(backbone, lora), answers, tuning.model_dump(mode="json")]), 16)


def _labels(backbone: Backbone, lora: LoraSettings) -> dict[str, Any]:
    return {"backbone": identity(backbone), "lora": lora.model_dump(mode="json")}
