"""The ONNX graph of the live page: one decoding step of the backbone with the rows of the chosen experts added.

It also has the router's query, so that one run on the prompt tells what to add in the next. Rows of zeros give the
backbone alone.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from live.memory import BACKBONE, rows_of, tuner
from mome import Memory, load_backbone
from mome.adapter.router import Router, normalized
from mome.lm.decoder import decoder_layers

INPUTS, OUTPUTS = ["ids", "rows", "weights"], ["logits", "query"]


class Added(nn.Module):
    """A linear module plus `update`: what the chosen experts add, as `mome.adapter.layer.MomeLinear` does."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.update: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[1, T, d_in] -> [1, T, d_out], with a [K, d_in], b [K, d_out] and weights [K] of rank-1 experts."""
        assert self.update is not None
        a, b, weights = self.update
        out: Tensor = self.base(x) + ((x @ a.T) * weights) @ b
        return out


class Step(nn.Module):
    """Backbone, router and experts of one question: what the graph computes. It changes `backbone` in place."""

    def __init__(self, backbone: Any, router: Router, read_layer: int, shapes: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.backbone, self.router, self.widths = backbone, router, [width for width, _ in shapes.values()]
        self.added = [Added(backbone.get_submodule(name)) for name in shapes]
        self.states: list[Tensor] = []  # those that the router reads [1, T, D], of the present pass
        for name, module in zip(shapes, self.added, strict=True):
            backbone.set_submodule(name, module)
        decoder_layers(backbone)[read_layer].register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.states.append(args[0] if args else kwargs["hidden_states"])

    def forward(self, ids: Tensor, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [vocabulary] after the last of the tokens `ids` [1, T], and the router's query [key_size] of them.

        `rows` [K, modules, d_in + d_out] and `weights` [K] are those of the chosen experts.
        """
        for module, width, own in zip(self.added, self.widths, rows.unbind(1), strict=True):
            module.update = own[:, :width], own[:, width:], weights
        logits = self.backbone(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, 0]
        query = self.router.pooled(normalized(self.states.pop()), torch.ones_like(ids, dtype=torch.bool))[0]
        return logits, query


def exported(memory: Memory) -> bytes:
    """The graph of the memory's backbone and router, in the ONNX format; the experts are inputs."""
    mome = tuner(memory)
    plain = load_backbone(BACKBONE)
    step = Step(plain.model, mome.router, mome.read_layer, mome.bank.shapes).eval()
    shape = (mome.settings.top_k, *rows_of(memory)[1].shape[1:])
    given = torch.tensor([[1, 2, 3, 4, 5]]), torch.zeros(shape), torch.ones(shape[0])
    tokens = torch.export.Dim("tokens", min=2, max=plain.model.config.max_position_embeddings - 1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which nothing here uses
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the exporter's own calls
        program = torch.onnx.export(
            step,
            given,
            dynamo=True,
            dynamic_shapes=({1: tokens}, None, None),
            input_names=INPUTS,
            output_names=OUTPUTS,
            verbose=False,
        )
    assert program is not None
    made: bytes = program.model_proto.SerializeToString()
    return made
