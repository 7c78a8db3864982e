"""Experts at work: the linear modules that add what the chosen ones know."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from mome.bank import Bank
from mome.kernels.lora_gather import lora_gather
from mome.routes import Selection


class State:
    """What the adapted modules share in one forward pass."""

    def __init__(self) -> None:
        self.bank: Bank
        self.selection: Selection | None = None
        self.prompt: Tensor | None = None
        self.enabled, self.held, self.generating = True, False, False

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        copied = State()  # without the choice in use, which may hang on a graph of gradients
        copied.bank, copied.enabled = deepcopy(self.bank, memo), self.enabled
        return copied


class MomeLinear(nn.Module, BaseTunerLayer):
    """A linear module plus what the chosen experts add: y + sum_k w_k b_k (a_k . x)."""

    def __init__(self, base_layer: nn.Linear, name: str, state: State) -> None:
        super().__init__()
        self.base_layer, self.name, self.state = base_layer, name, state

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[Q, T, d_in] -> [Q, T, d_out]."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        chosen = self.state.selection
        if chosen is None or chosen.block is None or not self.state.enabled:
            return y
        a, b = self.state.bank.split(self.name, chosen.block.rows[self.name])
        return lora_gather(x, a, b, chosen.places, chosen.routes.weights, y)
