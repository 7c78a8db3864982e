"""Work that is counted and not timed, so that it is the same on any machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mome.adapter.index import KINDS, FlatIndex, ProductKeyIndex
from mome.replication.counting.meter import expert_formulas
from mome.replication.notebook.backbones import asked_backbone

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """`flops` of products, 2 for each multiply and add, and the `bytes` of all tensors that were made on the way."""

    flops: int
    bytes: int


def work_of(run: Callable[[], Any]) -> Work:
    """Call `run` once and count its work.

    FLOPs are those of matrix products, as `torch.utils.flop_counter` has them, of the experts' operators and of
    products element by element. Bytes are those of every tensor that an operation returns in storage of its own:
    whatever is made, cleared or copied at the size of a whole bank shows in them. Views and what is written in place
    do not.
    """
    made = _Made()
    formulas = {**expert_formulas(), torch.ops.aten.mul: _elementwise}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, made:
        run()
    return Work(counter.get_total_flops(), made.bytes)


def lookup_work(experts: Sequence[int], *, k: int = 32, size: int = 128, seed: int = 0) -> dict[int, dict[str, int]]:
    """The FLOPs of choosing `k` experts for one question, by number of experts: "product_key", and "flat" by all keys.

    The keys have `size` numbers (the router's own: 128).
    """
    query = torch.nn.functional.normalize(torch.randn(1, size, generator=torch.Generator().manual_seed(seed)))
    return {
        count: {name: _search_flops(kind(count, size, seed), query, min(k, count)) for name, kind in KINDS.items()}
        for count in experts
    }


def _search_flops(index: FlatIndex | ProductKeyIndex, query: Tensor, k: int) -> int:
    return work_of(lambda: index.search(query, k)).flops


def token_work(name: str) -> int:
    """The FLOPs of one token without a context through the backbone `name`, its logits included."""
    model = asked_backbone(name).model
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.no_grad():
        return work_of(lambda: model(input_ids=ids, use_cache=False)).flops


class _Made(TorchDispatchMode):
    """Adds up the bytes of tensors that do not share the storage of an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        returned = func(*args, **given)
        held = {_place(value) for value in tree_leaves((args, given)) if isinstance(value, Tensor)}
        new = [value for value in tree_leaves(returned) if isinstance(value, Tensor) and _place(value) not in held]
        self.bytes += sum(value.nbytes for value in new)
        return returned


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _elementwise(*_: Any, out_shape: Shape | None = None, **__: Any) -> int:
    return 2 * math.prod(out_shape or ())
