"""A check that the experts are trained: an optimizer of parameters alone does not see them, and its step is refused."""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakSet

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

REMEDY = (
    "the experts' rows lie in the bank, where an optimizer of parameters does not see them, so nothing would be "
    "learned: train with mome.train.optim.MemoryOptimizer(model, RowAdam(mome_model(model).bank, 1e-2)), which "
    "Trainer takes as optimizers=(optimizer, None)"
)

_models: WeakSet[Any] = WeakSet()


def watch(model: Any) -> None:
    """From now on, refuse the step of an optimizer of this MoME model's parameters that would leave the experts out."""
    _models.add(model)
    _watch_steps()


def refuse_untaken(model: Any) -> None:
    """Raise RuntimeError if rows of an earlier pass of this MoME model have gradients that no optimizer can take."""
    waiting = any(rows.grad is not None for block in model.blocks for rows in block.rows.values())
    if waiting and not model.bank.optimizers:
        raise RuntimeError(f"MoME: {REMEDY}")


@cache
def _watch_steps() -> None:
    register_optimizer_step_pre_hook(_before_step)


def _before_step(optimizer: Optimizer, *_: Any) -> None:
    """Before any optimizer's step in this process: who trains a MoME model's parameters must train its rows too."""
    stepped: set[int] | None = None
    for model in [*_models]:
        if model.blocks and not model.bank.optimizers:
            stepped = stepped or {id(value) for group in optimizer.param_groups for value in group["params"]}
            if any(id(value) in stepped for value in model.parameters()):
                refuse_untaken(model)
