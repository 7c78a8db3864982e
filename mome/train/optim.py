"""Row-sparse optimizers: they update only the rows they are given, and keep their state in tables of the bank."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Never

import torch
from torch import Tensor
from torch.distributed import is_available, is_initialized

from mome.adapter.bank import IDS, Bank, optimizer_tables
from mome.adapter.model import mome_model
from mome.adapter.selection import Block
from mome.kernels.row_sum import row_sum
from mome.kernels.row_update.reference import Adafactor, Adam, adafactor_blocks, adam_block, adam_sizes

STEPS = "steps"
COLUMNS = "columns/"
ROWS, ROUTER, GROUP, TABLES = "rows", "router", "group", "tables"


class RowOptimizer(ABC):
    """The steps that row-sparse optimizers share; `name` is the prefix of the tables of state in the bank.

    The optimizer counts the updates of each row itself (4 bytes a row, one counter for all modules). It does not use
    the bank's counter, so that rows restored without this optimizer's state start at step 1.
    """

    name: str

    def __init__(self, bank: Bank, learning_rate: float) -> None:
        self.bank, self.learning_rate = bank, _checked_rate(learning_rate)
        self._steps = bank.table(f"{self.name}/{STEPS}", 1, torch.int32)
        bank.optimizers.add(self)

    @torch.no_grad()
    def update(self, ids: Tensor, gradients: Mapping[str, Tensor], learning_rate: float | None = None) -> None:
        """Take one step on the rows `ids` (int64 [n], distinct) with `gradients` (every module -> float32 [n, width]).

        `learning_rate` replaces the optimizer's own in this step. Raises ValueError naming the value that is refused,
        a gradient that is not finite among them, before anything is changed.
        """
        rate = self.learning_rate if learning_rate is None else _checked_rate(learning_rate)
        self.bank.check_ids(ids, distinct=True)
        self.bank.check_rows("gradients", gradients, len(ids))
        _check_finite(ids, gradients)
        if not len(ids):
            return
        steps = self._steps.index_select(0, ids) + 1
        rows = self.bank.read(ids)
        self._descend(ids, rows, gradients, steps.double(), rate)
        self._steps.index_copy_(0, ids, steps)
        self.bank.write(ids, rows)

    @abstractmethod
    def _descend(
        self, ids: Tensor, rows: dict[str, Tensor], gradients: Mapping[str, Tensor], steps: Tensor, rate: float
    ) -> None:
        """Update `rows` in place, and the state; `steps` float64 [n, 1] counts this step."""

    def __reduce__(self) -> Never:
        raise TypeError(f"{type(self).__name__}: its state lies in the bank, so it is made anew there, not copied")

    def state(self) -> dict[str, Tensor]:
        """The state outside the bank's tables, copied; empty where there is none."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state()` returned. Raises ValueError naming the entry that does not fit."""
        _check_like(state, self.state())


class RowAdam(RowOptimizer):
    """Adam (arXiv 1412.6980) on rows: torch.optim.Adam's formula; each row's own count of updates corrects its bias.

    State: the two averages of every row, float32. No weight decay, which would have to reach the untouched rows.

    Raises:
        ValueError: a beta is not from 0 to below 1, epsilon not above 0, or the learning rate below 0 or not finite.

    Example:
        >>> import torch
        >>> from peft import get_peft_model
        >>> from mome import MomeConfig, RowAdam, load_backbone, mome_model
        >>> model = get_peft_model(load_backbone("tiny-llama").model, MomeConfig(num_experts=1024))
        >>> bank = mome_model(model).bank
        >>> gradients = {module: torch.ones(2, bank.width(module)) for module in bank.shapes}
        >>> RowAdam(bank, learning_rate=1e-2).update(torch.tensor([3, 5]), gradients)
        >>> bank.touched().tolist()
        [3, 5]
    """

    name = "adam"

    def __init__(
        self, bank: Bank, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        for index, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"betas[{index}]: must be at least 0 and below 1, got {beta!r}")
        self.betas, self.epsilon = betas, _checked_positive("epsilon", epsilon)
        super().__init__(bank, learning_rate)
        self._averages = {module: self._tables(module) for module in bank.shapes}

    def _tables(self, module: str) -> tuple[Tensor, Tensor]:
        names = (f"{self.name}/{part}/{module}" for part in ("exp_avg", "exp_avg_sq"))
        first, second = (self.bank.table(name, self.bank.width(module), torch.float32) for name in names)
        return first, second

    def _descend(
        self, ids: Tensor, rows: dict[str, Tensor], gradients: Mapping[str, Tensor], steps: Tensor, rate: float
    ) -> None:
        settings = Adam(rate, self.betas, self.epsilon)
        sizes = adam_sizes(steps, settings)
        for module, averages in self._averages.items():
            adam_block(rows[module], *averages, ids, gradients[module], sizes, settings)


class RowAdafactor(RowOptimizer):
    """Adafactor (arXiv 1804.04235) on rows: transformers' Adafactor on the one matrix [N, width] of a module's rows.

    As that with scale_parameter=False, relative_step=False, warmup_init=False, beta1=None, weight_decay=0. A row decays
    its statistic by its own number of updates (beta2 = 1 - step**decay_rate), the columns by the number of all updates;
    means over rows and the clipped size of the update are over the rows of the step. State: 4 bytes a row and module.

    Raises:
        ValueError: epsilon, clipping threshold, decay rate or learning rate lies outside its range.

    Example:
        >>> from peft import get_peft_model
        >>> from mome import MomeConfig, RowAdafactor, load_backbone, mome_model
        >>> model = get_peft_model(load_backbone("tiny-llama").model, MomeConfig(num_experts=1024))
        >>> RowAdafactor(mome_model(model).bank, learning_rate=1e-2).learning_rate
        0.01
    """

    name = "adafactor"

    def __init__(
        self,
        bank: Bank,
        learning_rate: float,
        epsilon: float = 1e-30,
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
    ) -> None:
        if not decay_rate < 0:
            raise ValueError(f"decay_rate: must be below 0, got {decay_rate!r}")
        self.epsilon = _checked_positive("epsilon", epsilon)
        self.clip_threshold = _checked_positive("clip_threshold", clip_threshold)
        self.decay_rate = decay_rate
        super().__init__(bank, learning_rate)
        self._rows = bank.table(f"{self.name}/rows", len(bank.shapes), torch.float32)
        self._columns = {module: torch.zeros(bank.width(module)) for module in bank.shapes}
        self._updates = 0

    def _descend(
        self, ids: Tensor, rows: dict[str, Tensor], gradients: Mapping[str, Tensor], steps: Tensor, rate: float
    ) -> None:
        self._updates += 1
        settings = Adafactor(rate, self.epsilon, self.clip_threshold, self.decay_rate)
        blocks, values = ([found[module] for module in self._columns] for found in (rows, gradients))
        columns = list(self._columns.values())
        adafactor_blocks(blocks, self._rows, columns, ids, values, steps, self._updates, settings)

    def state(self) -> dict[str, Tensor]:
        """`steps` int64 [] and, for each module, `columns/<module>` float32 [width]."""
        columns = {COLUMNS + module: column.clone() for module, column in self._columns.items()}
        return {STEPS: torch.tensor(self._updates), **columns}

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        if int(state[STEPS]) < 0:
            raise ValueError(f"optimizer state: {STEPS!r} must be at least 0, got {int(state[STEPS])}")
        self._updates = int(state[STEPS])
        for module, column in self._columns.items():
            column.copy_(state[COLUMNS + module])


def _checked_rate(value: float) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"learning_rate: must be finite and at least 0, got {value!r}")
    return value


def _checked_positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}: must be finite and above 0, got {value!r}")
    return value


def _check_finite(ids: Tensor, gradients: Mapping[str, Tensor]) -> None:
    for module, gradient in gradients.items():
        # squares are averaged later, so a gradient whose norm overflows is no better than an infinite one
        if not math.isfinite(torch.linalg.vector_norm(gradient)):
            worst = int(torch.linalg.vector_norm(gradient, dim=1).nan_to_num(math.inf, math.inf).argmax())
            raise ValueError(f"gradients[{module!r}]: row {int(ids[worst])} is not finite or overflows when squared")


def _check_like(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if found.keys() != expected.keys():
        wrong = sorted(found.keys() ^ expected.keys())[0]
        raise ValueError(f"optimizer state: {wrong!r} is {'unknown' if wrong in found else 'missing'}")
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            got = f"{found[name].dtype} {list(found[name].shape)}"
            raise ValueError(f"optimizer state: {name!r} must be {value.dtype} {list(value.shape)}, got {got}")


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

    Example:
        >>> import torch
        >>> from peft import get_peft_model
        >>> from mome import MemoryOptimizer, MomeConfig, RowAdam, load_backbone, mome_model
        >>> model = get_peft_model(load_backbone("tiny-llama").model, MomeConfig(num_experts=1024))
        >>> optimizer = MemoryOptimizer(model.train(), RowAdam(mome_model(model).bank, learning_rate=1e-2))
        >>> ids, labels = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[-100, -100, 7, 8]])  # -100: the prompt
        >>> model(input_ids=ids, labels=labels).loss.backward()
        >>> optimizer.step()
        >>> len(mome_model(model).bank.touched())  # the 32 experts that the question has
        32
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
        super().__init__([{"params": [], "lr": rows.learning_rate}, *(router.param_groups if router else [])], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the rows used since the last step, then the router."""
        loss = None if closure is None else torch.enable_grad()(closure)()
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
        for name in kept.keys() - {IDS}:
            optimizer_tables(self.rows.bank)[name].index_copy_(0, kept[IDS], kept[name])
        self.param_groups[0].update(state_dict[GROUP])
        if self.router:
            self.router.load_state_dict(state_dict[ROUTER])
            self.param_groups[1:] = self.router.param_groups


def _summed(blocks: list[Block]) -> tuple[Tensor, dict[str, Tensor]]:
    """Distinct ids [n] and, for each module, their gradients [n, width] added up over `blocks`, on the CPU."""
    ids = torch.cat([block.ids for block in blocks])
    gradients: dict[str, Tensor] = {}
    for name in blocks[0].rows:
        parts = [block.rows[name] for block in blocks]
        grads = [torch.zeros_like(rows) if rows.grad is None else rows.grad for rows in parts]
        distinct, gradients[name] = row_sum(ids, torch.cat([grad.cpu() for grad in grads]))
    used = torch.stack([gradient.any(dim=1) for gradient in gradients.values()]).any(dim=0)
    return distinct[used], {name: gradient[used] for name, gradient in gradients.items()}
