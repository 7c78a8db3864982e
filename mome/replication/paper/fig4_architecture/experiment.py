"""The architecture of a live model with memory experts: sizes, places and frozen parts, read off the model object."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas
from torch import nn

from mome.adapter.index import ProductKeyIndex
from mome.adapter.layer import MomeLinear
from mome.adapter.model import LAYER, mome_model
from mome.lm.decoder import decoder_layers

FEW = 8


@dataclass(frozen=True, slots=True)
class Architecture:
    """The parts of a model with memory experts.

    `attention_width` is that of all heads together, `linear_weights` counts the numbers in all linear modules, and
    `frozen` tells of each decoder layer whether none of its parameters takes gradients. `halves` are the numbers of
    half keys of a product-key index (None: flat). `adapted` has (d_in, d_out) of each adapted module. `touched` rows
    were written so far, of `bytes_per_number` bytes a number.
    """

    layers: int
    hidden: int
    attention_width: int
    vocabulary: int
    linear_weights: int
    backbone_parameters: int
    frozen: tuple[bool, ...]
    router_layer: int
    router_parameters: int
    router_frozen: bool
    heads: int
    key_size: int
    halves: tuple[int, int] | None
    num_experts: int
    top_k: int
    rank: int
    adapted: dict[str, tuple[int, int]]
    bytes_per_number: int
    touched: int
    anchors: int

    @property
    def expert_parameters(self) -> int:
        """Numbers in one expert, all adapted modules together."""
        return self.rank * sum(map(sum, self.adapted.values()))

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's rows."""
        return self.expert_parameters * self.bytes_per_number

    @property
    def bank_bytes(self) -> int:
        """Bytes of all rows; those that were never written are addresses without memory."""
        return self.num_experts * self.expert_bytes

    @property
    def touched_bytes(self) -> int:
        """Bytes of the rows that were written."""
        return self.touched * self.expert_bytes

    def modules_of(self, layer: int) -> list[str]:
        """Full names of the adapted modules of a decoder layer."""
        return [name for name in self.adapted if (found := LAYER.search(name)) and int(found.group(1)) == layer]

    def layer_groups(self) -> list[tuple[int, int, tuple[str, ...]]]:
        """First and last layer of each run of equal decoder layers, with the short names of their adapted modules.

        Where there are few layers, each stands alone.
        """

        def kind(layer: int) -> tuple[int, tuple[str, ...]]:
            place = layer if self.layers <= FEW else int(layer >= self.router_layer)
            return place, tuple(name.split(".")[-1] for name in self.modules_of(layer))

        runs = [(list(run), names) for (_, names), run in groupby(range(self.layers), key=kind)]
        return [(run[0], run[-1], names) for run, names in runs]

    def table(self) -> pandas.DataFrame:
        """One row for each part: its shape, the numbers in it, and what trains it."""
        keys = " + ".join(map(str, self.halves)) + " half keys" if self.halves else f"{self.num_experts:,} keys"
        widths = sorted({f"{d_in} + {d_out}" for d_in, d_out in self.adapted.values()})
        expert = f"rank {self.rank} on {len(self.adapted)} modules of {' or '.join(widths)}"
        keyed = self.key_size * (sum(self.halves) // 2 if self.halves else self.num_experts)
        fixed = {True: "frozen", False: "takes gradients"}
        rows = [
            ("backbone", f"{self.layers} layers of {self.hidden}", self.backbone_parameters, fixed[all(self.frozen)]),
            (
                "router",
                f"{self.heads} heads, query of {self.key_size}",
                self.router_parameters,
                fixed[self.router_frozen],
            ),
            ("index", keys, keyed, "drawn once, never trained"),
            ("one expert", expert, self.expert_parameters, "trained where chosen"),
            ("bank", f"{self.num_experts:,} experts", self.num_experts * self.expert_parameters, "only rows chosen"),
        ]
        return pandas.DataFrame(rows, columns=["part", "shape", "numbers", "training"])


def read_architecture(model: Any) -> Architecture:
    """Read it off a PEFT model with a MoME adapter.

    Raises:
        ValueError: the model has no MoME adapter.
    """
    mome = mome_model(model)
    if mome is None:
        raise ValueError("read_architecture: the model has no MoME adapter")
    backbone: Any = mome.model
    config, router, layers = backbone.config, mome.router, decoder_layers(backbone)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    modules, own = list(backbone.modules()), list(router.parameters())
    return Architecture(
        layers=len(layers),
        hidden=config.hidden_size,
        attention_width=head * config.num_attention_heads,
        vocabulary=config.vocab_size,
        linear_weights=sum(part.weight.numel() for part in modules if isinstance(part, nn.Linear)),
        backbone_parameters=sum(part.numel() for part in backbone.parameters()),
        frozen=tuple(not any(part.requires_grad for part in layer.parameters()) for layer in layers),
        router_layer=mome.read_layer,
        router_parameters=sum(part.numel() for part in own),
        router_frozen=not any(part.requires_grad for part in own),
        heads=len(router.pool),
        key_size=len(router.project),
        halves=_halves(router.index),
        num_experts=mome.bank.num_experts,
        top_k=router.top_k,
        rank=mome.bank.rank,
        adapted={part.name: mome.bank.shapes[part.name] for part in modules if isinstance(part, MomeLinear)},
        bytes_per_number=mome.bank.dtype.itemsize,
        touched=len(mome.bank.touched()),
        anchors=len(router.anchors),
    )


def _halves(index: nn.Module) -> tuple[int, int] | None:
    return (len(index.first), len(index.second)) if isinstance(index, ProductKeyIndex) else None
