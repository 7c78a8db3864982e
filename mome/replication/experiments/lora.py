"""Facts memorized with LoRA, from a snapshot where there is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def memorize(name: str, facts: Sequence[Fact], tuning: TuningSettings, lora: LoraSettings) -> Memorized:
    """Tune a fresh LoRA on a fresh copy of the backbone `name`, or go on from (or take) this run's snapshot."""
    backbone = asked_backbone(name)
    model: Any = attach_lora(backbone, lora, tuning.seed)
    labels = {"backbone": identity(backbone), "lora": lora.model_dump(mode="json")}
    run = tune(model, backbone.tokenizer, facts, tuning, _snapshot_path(labels, facts, tuning), labels)
    return Memorized(Backbone(name, model, backbone.tokenizer), run, list(facts))


def _snapshot_path(labels: dict[str, Any], facts: Sequence[Fact], tuning: TuningSettings) -> Path:
    key = json.dumps([labels, [fact.id + fact.answer for fact in facts], tuning.model_dump(mode="json")])
    return work_folder() / "tuning" / f"{text_sha256(key, 16)}.safetensors"
