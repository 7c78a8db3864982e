"""Memory tuning of a user's own file of facts, from the reader to the saved adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mome.backbones import load_backbone
from mome.baselines.lora import attach_lora
from mome.config import LoraSettings, TuningSettings
from mome.evaluation import exact
from mome.facts import read_facts
from mome.tuning import tune

SNAPSHOT = "snapshot.safetensors"


def memorize_file(path: Path, out: Path, backbone_name: str, tuning: TuningSettings, lora: LoraSettings) -> str:
    """Tune a LoRA adapter on the facts of `path`, save it in PEFT's format to `out`, and say what it recalls.

    The run's snapshot stays in `out`, so that a second call goes on, or is done at once.

    Raises:
        FactError: the file is not exactly a list of distinct facts.
        BackboneError: the backbone cannot be loaded.
        CheckpointError: `out` holds a snapshot of other facts or settings.
    """
    facts = read_facts(path)
    backbone = load_backbone(backbone_name)
    model: Any = attach_lora(backbone, lora, tuning.seed)
    labels = {"backbone": backbone_name, "lora": lora.model_dump(mode="json")}
    run = tune(model, backbone.tokenizer, facts, tuning, out / SNAPSHOT, labels)
    model.save_pretrained(out)
    recalled = exact(model, backbone.tokenizer, facts)
    lines = [
        f"{sum(recalled)} of {len(facts)} facts recalled exactly after {len(run.curve)} epochs ({run.seconds:.0f} s)"
    ]
    lines += [
        f"not recalled: {fact.id} ({fact.question})" for fact, right in zip(facts, recalled, strict=True) if not right
    ]
    return "\n".join(lines)
