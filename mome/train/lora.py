"""LoRA, the paper's memory tuning of appendix A, by PEFT."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from mome.lm.decoder import decoder_layers
from mome.lm.loading import Backbone
from mome.train.settings import LoraSettings


def attach_lora(backbone: Backbone, settings: LoraSettings, seed: int) -> PeftModel:
    """Put a fresh LoRA adapter (f32, A random by `seed`, B zero) on the frozen backbone, changing the model in place.

    Raises:
        ValueError: PEFT finds none of the target modules, or the model has fewer layers than the settings name.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale * settings.rank,  # type: ignore[arg-type] # PEFT divides it by r
        target_modules=_target_modules(backbone.model, settings),
        layers_to_transform=settings.layers,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(backbone.model, config)


def _target_modules(model: PreTrainedModel, settings: LoraSettings) -> str | list[str]:
    """The settings' pattern, or the names it stands for: PEFT takes layer numbers only beside a list of names."""
    if settings.layers is None:
        return settings.target_modules
    count = len(decoder_layers(model))
    if max(settings.layers, default=0) >= count:
        raise ValueError(f"layers {settings.layers}: the model has only layers 0 to {count - 1}")
    pattern = ".*" if settings.target_modules == "all-linear" else settings.target_modules
    head = model.get_output_embeddings()
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not head]
    return sorted({name.rpartition(".")[2] for name in linear if re.fullmatch(pattern, name)})
