"""The optimizer of a MoME model for training loops that know torch's optimizers only, such as HF's Trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed import is_available, is_initialized

from mome.adapter.bank import IDS
from mome.adapter.model import mome_model
from mome.adapter.selection import Block
from mome.kernels.row_sum import row_sum
from mome.train.optim import RowOptimizer, optimizer_tables

ROWS, ROUTER, GROUP, TABLES = "rows", "router", "group", "tables"


class MemoryOptimizer(torch.optim.Optimizer):
    """`Trainer(model, optimizers=(MemoryOptimizer(model, RowAdam(mome_model(model).bank, 1e-2)), None))`.

    `step` gives the rows that took part in forward passes since the last one to the row optimizer `rows`, gradients of
    a row in several passes added up, at the learning rate of the first parameter group (so schedulers work). A row
    whose gradient is zero throughout is left alone. `router` is a torch optimizer of the router's parameters, stepped
    along; without one the router stays as it is. Give Trainer `remove_unused_columns=False` to pass `prompt_mask`.
    Gradients of rows are not clipped, nor shared between processes.

    Raises:
        ValueError: the model has no MoME adapter, or `rows` belongs to another model's bank.
        RuntimeError: several processes train.
    """

    def __init__(self, model: Any, rows: RowOptimizer, router: torch.optim.Optimizer | None = None) -> None:
        found = mome_model(model)
        if found is None:
            raise ValueError(f"MemoryOptimizer: {type(model).__name__} has no MoME adapter")
        if rows.bank is not found.bank:
            raise ValueError("MemoryOptimizer: rows is an optimizer of another model's bank")
        if is_available() and is_initialized() and torch.distributed.get_world_size() > 1:
            raise RuntimeError("MemoryOptimizer: training in several processes is not supported: each has its own bank")
        self.memory, self.rows, self.router = found, rows, router
        group = {"params": [], "lr": rows.learning_rate}
        super().__init__([group, *(router.param_groups if router else [])], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the rows used since the last step, then the router."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        blocks = [block for block in self.memory.blocks if any(rows.grad is not None for rows in block.rows.values())]
        self.memory.blocks.clear()
        if blocks:
            ids, gradients = _summed(blocks)
            self.rows.update(ids, gradients, self.param_groups[0]["lr"])
        if self.router:
            self.router.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the forward passes since the last step."""
        self.memory.blocks.clear()
        if self.router:
            self.router.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the rows themselves, which are saved with the model; of its tables the touched rows."""
        group = {name: value for name, value in self.param_groups[0].items() if name != "params"}
        ids = self.rows.bank.touched()
        tables = {name: table.index_select(0, ids) for name, table in optimizer_tables(self.rows.bank).items()}
        router = self.router.state_dict() if self.router else {}
        return {GROUP: group, ROWS: self.rows.state(), ROUTER: router, TABLES: {IDS: ids, **tables}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the bank is loaded with the model, before."""
        if bool(state_dict[ROUTER]) != (self.router is not None):
            raise ValueError("MemoryOptimizer: saved with an optimizer of the router, or without, unlike this one")
        self.rows.load(state_dict[ROWS])
        kept = state_dict.get(TABLES, {})  # earlier versions saved them with the model
        for name, table in optimizer_tables(self.rows.bank).items():
            if name in kept:
                table.index_copy_(0, kept[IDS], kept[name])
        self.param_groups[0].update(state_dict[GROUP])
        if self.router:
            self.router.load_state_dict(state_dict[ROUTER])
            self.param_groups[1:] = self.router.param_groups


def _summed(blocks: list[Block]) -> tuple[Tensor, dict[str, Tensor]]:
    """Distinct ids [n] and, for each module, their gradients [n, width] added up over `blocks`, on the CPU."""
    ids = torch.cat([block.ids for block in blocks])
    gradients: dict[str, Tensor] = {}
    for name in blocks[0].rows:
        parts = [_gradient(block.rows[name]) for block in blocks]
        distinct, gradients[name] = row_sum(ids, torch.cat(parts))
    used = torch.stack([gradient.any(dim=1) for gradient in gradients.values()]).any(dim=0)
    return distinct[used], {name: gradient[used] for name, gradient in gradients.items()}


def _gradient(rows: Tensor) -> Tensor:
    return (torch.zeros_like(rows) if rows.grad is None else rows.grad).cpu()
