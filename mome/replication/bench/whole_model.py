"""Whole models for `end_to_end`: a backbone of any shape with random weights, and one with experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerBase

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.train.attach import attach_mome
from mome.train.router import train_router
from mome.train.settings import RouterSettings

Make = Callable[[], Backbone]


@dataclass(frozen=True, slots=True)
class EndToEndSizes:
    """Experts N; a tuning run's batches and epochs, and how many runs; tokens of prompt and answer, how many rounds."""

    experts: int = 2**20
    batch_size: int = 16
    epochs: int = 10
    runs: int = 5
    prompt_tokens: int = 512
    new_tokens: int = 32
    rounds: int = 20


def llama_8b() -> PreTrainedConfig:
    """The shape of Llama 3 8B."""
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )


def random_backbone(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, device: torch.device, seed: int = 0
) -> Backbone:
    """A frozen model of this shape with random weights: f32 on a CPU, bf16 on an accelerator, as `load_backbone` does.

    The tokenizer need not be the model's own, as long as its tokens are among the model's.
    """
    dtype, attention = (torch.float32, "eager") if device.type == "cpu" else (torch.bfloat16, "sdpa")
    torch.manual_seed(seed)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    return Backbone("random weights", model.requires_grad_(False).eval().to(device), tokenizer)


def with_experts(backbone: Backbone, facts: Sequence[Fact], experts: int) -> Any:
    """The backbone with untouched memory experts; its router is whitened by the questions, but not trained."""
    model: Any = attach_mome(backbone, MomeConfig(num_experts=experts), seed=0)
    train_router(model, backbone.tokenizer, facts, RouterSettings(objective="none"))
    return model


def peak_gib(device: torch.device, model: Any, run: Callable[[], object]) -> float | None:
    """Call `run`; the most device memory it added at a time, with the model's own tensors, in GiB; None on a CPU."""
    if device.type == "cpu":
        run()
        return None
    own = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return (torch.cuda.max_memory_allocated(device) - before + own) / 2**30
