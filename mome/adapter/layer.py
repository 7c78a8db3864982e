"""An adapted linear module: it adds what the chosen experts have learned."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from mome.adapter.state import State
from mome.kernels.lora_gather import lora_gather


class MomeLinear(nn.Module, BaseTunerLayer):
    """A linear module plus what the chosen experts add: y + sum_k w_k b_k (a_k . x)."""

    def __init__(self, base_layer: nn.Linear, name: str, state: State) -> None:
        super().__init__()
        self.base_layer, self.name, self.state = base_layer, name, state

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[Q, T, d_in] -> [Q, T, d_out]."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        chosen = self.state.chosen
        if chosen is None or chosen.block is None:  # no experts in this call, or none of the chosen was ever trained
            return y
        a, b = self.state.bank.split(self.name, chosen.block.rows[self.name])  # [n, R, d_in], [n, R, d_out]
        return lora_gather(x, a, b, chosen.places, chosen.routes.weights, y)  # places, weights: [Q, K]
