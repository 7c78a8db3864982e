"""The fewest bytes that an operation can move: each number it needs is read once, each result written once.

What a contender moves beyond that (copies, casts, atomics, scores kept in memory) is its own loss and is not counted.
F32 and int32 take 4 bytes, ids 8. Symbols as in the paper: Q questions of T tokens, K experts of rank R each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from mome.lm.decoder import decoder_layers

F32, INT64 = 4, 8


@dataclass(frozen=True, slots=True)
class ModuleSizes:
    """One adapted linear module: `item` bytes for each of its numbers, and of the activations and rows."""

    questions: int = 8
    tokens: int = 128
    experts: int = 32
    rank: int = 1
    d_in: int = 4096
    d_out: int = 4096
    item: int = 2

    @property
    def selected(self) -> int:
        """Q K, the rows in use."""
        return self.questions * self.experts

    @property
    def width(self) -> int:
        """R (d_in + d_out), the numbers of a row."""
        return self.rank * (self.d_in + self.d_out)

    @property
    def inputs(self) -> int:
        """Bytes of X or dX [Q, T, d_in]."""
        return self.questions * self.tokens * self.d_in * self.item

    @property
    def outputs(self) -> int:
        """Bytes of Y or dY [Q, T, d_out]."""
        return self.questions * self.tokens * self.d_out * self.item

    @property
    def hidden(self) -> int:
        """Bytes of X A^T [Q, T, K R] in f32."""
        return self.questions * self.tokens * self.experts * self.rank * F32


def forward(sizes: ModuleSizes) -> int:
    """X, the rows and Y read, Y written, the hidden numbers written and read."""
    return sizes.inputs + sizes.selected * sizes.width * sizes.item + 2 * sizes.outputs + 2 * sizes.hidden


def backward(sizes: ModuleSizes) -> int:
    """X, dY, dX, the rows read, dX and the row gradients (f32) written, the hidden numbers twice."""
    rows = sizes.selected * sizes.width
    return 3 * sizes.inputs + sizes.outputs + rows * (sizes.item + F32) + 2 * sizes.hidden


def row_update(sizes: ModuleSizes, optimizer: str) -> int:
    """Row gradients (f32) read, rows read and written; Adam's two averages, or Adafactor's row and column averages."""
    rows = sizes.selected * sizes.width
    state = 4 * rows * F32 if optimizer == "adam" else 2 * (sizes.selected + sizes.width) * F32
    return rows * (F32 + 2 * sizes.item) + state


def expert_step(sizes: ModuleSizes, optimizer: str) -> int:
    """Forward, backward and update of the selected rows."""
    return forward(sizes) + backward(sizes) + row_update(sizes, optimizer)


def lora_step(sizes: ModuleSizes, item: int) -> int:
    """The same with one LoRA of rank K R for all questions, its numbers, gradients and Adam's averages of `item` bytes.

    Parameters are read three times (forward, backward, update) and written once, gradients written and read, both
    averages read and written.
    """
    numbers = sizes.experts * sizes.width
    through = sizes.inputs + 2 * sizes.outputs + 3 * sizes.inputs + sizes.outputs + 4 * sizes.hidden
    return through + numbers * item * (3 + 1 + 2 + 4)


def table_step(sizes: ModuleSizes, experts: int, dense: bool) -> int:
    """The same with Adam on a whole embedding table, averages and gradients in the table's dtype.

    A dense gradient is zeroed and read, and table and averages are read and written, all of it for every one of
    `experts` rows; a sparse one touches the selected rows alone.
    """
    touched = (experts if dense else sizes.selected) * sizes.width
    return forward(sizes) + backward(sizes) + touched * sizes.item * (1 + 2 + 4)


def frozen_linear(sizes: ModuleSizes) -> int:
    """Y = X W^T and dX = dY W: W read twice, X and dY read, Y and dX written."""
    weights = 2 * sizes.d_in * sizes.d_out * sizes.item
    return weights + 2 * sizes.inputs + 2 * sizes.outputs


def flat_search(queries: int, experts: int, size: int, k: int, item: int) -> int:
    """All keys [N, size] and queries read, scores (f32) and ids written."""
    return (experts + queries) * size * item + queries * k * (F32 + INT64)


def product_search(queries: int, halves: tuple[int, int], size: int, k: int, item: int) -> int:
    """Both tables of half keys and the queries read, scores (f32) and ids written."""
    return sum(halves) * (size // 2) * item + queries * size * item + queries * k * (F32 + INT64)


def weights(model: Any, first_layer: int = 0) -> int:
    """Bytes of the weights that a pass from `first_layer` upward reads: those layers, the last norm and the head."""
    parts = [*decoder_layers(model)[first_layer:], model.get_decoder().norm, model.get_output_embeddings()]
    return sum(parameter.nbytes for part in parts for parameter in frozen_parameters(part))


def frozen_parameters(part: nn.Module) -> list[nn.Parameter]:
    """The backbone's own parameters in a part of a model that may carry an adapter."""
    return [parameter for name, parameter in part.named_parameters() if ".lora_" not in name]


def tuning_step(model: Any, first_layer: int, cached: bool, numbers: int, optimizer: str) -> int:
    """A training step of a model: weights read forward and backward, and the `numbers` (f32) trained, with Adam or
    Adafactor. `first_layer` is the lowest adapted one; `cached`: the states that enter it are at hand.

    The numbers are read three times and written once, their gradients written and read, Adam's averages read and
    written. Activations are left out: they depend on the attention and on what the framework keeps.
    """
    passes = weights(model, first_layer if cached else 0) + weights(model, first_layer)
    return passes + numbers * F32 * (3 + 1 + 2 + (4 if optimizer == "adam" else 0))


def cached_states(config: Any, tokens: int, item: int) -> int:
    """Keys and values of `tokens` earlier tokens of one question, in all layers."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head * tokens * item
