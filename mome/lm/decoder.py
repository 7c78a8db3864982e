"""Running a part of a decoder: the states that enter one layer, and the rest of the model from such states.

Both work on a view of the model: a shallow copy with another list of layers. The model itself is not changed, so other
threads can use it at the same time.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn


class Skip(nn.Module):
    """Replaces a decoder layer and returns its input unchanged."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


class Keep(Skip):
    """Replaces a decoder layer, returns its input unchanged and keeps it as `states`."""

    states: Tensor

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        self.states = hidden_states
        return hidden_states


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder layers of a causal language model.

    Raises:
        ValueError: the model does not keep them where Llama, Mistral, Qwen and Gemma do.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"{type(model).__name__}: no list of decoder layers; Llama-, Mistral-, Qwen- and Gemma-style models have"
        )
    return layers


def without_layers(model: Any, start: int, stop: int) -> Any:
    """A view of a causal language model whose states pass layers start..stop-1 unchanged; `model` stays as it is.

    The view shares all weights, buffers and hooks with `model`, and its mode as it was when the view was made.
    """
    layers = list(decoder_layers(model))
    kept = [Skip() if start <= index < stop else layer for index, layer in enumerate(layers)]
    decoder = _view(model.get_decoder(), layers=nn.ModuleList(kept))
    return _replaced(model, model.get_decoder(), decoder)


@torch.no_grad()
def states_before(model: Any, layer: int, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """The states [B, T, D] that enter decoder layer `layer`, computed without it and those above."""
    last = Keep()
    decoder = _view(model.get_decoder(), layers=nn.ModuleList([*decoder_layers(model)[:layer], last]))
    decoder(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return last.states


def _view(module: nn.Module, **children: nn.Module) -> Any:
    """A shallow copy of `module` with some children of its own in the place of the shared ones."""
    seen = copy(module)
    seen._modules = {**module._modules, **children}
    return seen


def _replaced(module: nn.Module, old: nn.Module, new: nn.Module) -> Any:
    """A view of `module` with `new` in the place of `old`, however deep inside."""
    if module is old:
        return new
    for name, child in module.named_children():
        if any(part is old for part in child.modules()):
            return _view(module, **{name: _replaced(child, old, new)})
    raise ValueError(f"{type(module).__name__}: its decoder is not a part of it")
