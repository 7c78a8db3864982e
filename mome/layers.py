"""Running a part of a decoder: the states that enter one layer, and the rest of the model from such states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Skip(nn.Module):
    """Stands in for a decoder layer and hands its input on."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder layers of a causal language model.

    Raises:
        ValueError: the model does not keep them where Llama, Mistral and Qwen do.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"{type(model).__name__}: no list of decoder layers; Llama-, Mistral- and Qwen-style models have"
        )
    return layers


@contextmanager
def skipping(model: Any, start: int, stop: int) -> Iterator[None]:
    """Pass states through layers start..stop-1 unchanged while the context lasts."""
    layers = decoder_layers(model)
    kept = list(layers[start:stop])
    try:
        for index in range(start, start + len(kept)):
            layers[index] = Skip()
        yield
    finally:
        for index, layer in enumerate(kept, start):
            layers[index] = layer


@torch.no_grad()
def states_before(model: Any, layer: int, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """The states [B, T, D] that enter decoder layer `layer`, computed without it and those above."""
    found: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    with skipping(model, layer, len(decoder_layers(model))):
        decoder_layers(model)[layer].register_forward_pre_hook(keep, with_kwargs=True)
        model.get_decoder()(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return found[0]
