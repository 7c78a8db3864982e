"""What a step of a row-sparse optimizer costs: nothing of the size of the bank, and few bytes of state."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mome.adapter.bank import Bank
from mome.train.optim import RowAdafactor, RowAdam, RowOptimizer

SHAPES = {"layers.0.up": (3, 5), "layers.1.down": (5, 4)}
OPTIMIZERS = (RowAdam, RowAdafactor)


@pytest.mark.parametrize("shapes", (SHAPES, {"only": (8, 8)}))
def test_adafactor_keeps_at_most_eight_bytes_a_row_and_module(shapes: dict[str, tuple[int, int]]) -> None:
    bank = Bank(1_000, shapes, rank=4)
    before = set(bank.tables)
    optimizer = RowAdafactor(bank, 0.01)
    state = [table for name, table in bank.tables.items() if name not in before]
    assert sum(table.numel() * table.element_size() for table in state) <= 8 * 1_000 * len(shapes)
    assert sum(value.numel() for value in optimizer.state().values()) == 1 + sum(map(bank.width, shapes))


class Recorder(TorchDispatchMode):
    """Records each operation: its name, and the shapes of what it made; a bank's tables are shown as "table"."""

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.tables = {table.untyped_storage().data_ptr() for table in bank.tables.values()}
        self.records: list[tuple[str, bool, list[Any]]] = []

    def _shapes(self, values: Any) -> Iterator[Any]:
        if isinstance(values, torch.Tensor):
            yield "table" if values.untyped_storage().data_ptr() in self.tables else list(values.shape)
        elif isinstance(values, (list, tuple)):
            for value in values:
                yield from self._shapes(value)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.records.append((str(function), "table" in list(self._shapes(args)), list(self._shapes(result))))
        return result


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_does_nothing_of_the_size_of_the_bank(kind: type[RowOptimizer], dtype: torch.dtype) -> None:
    records = []
    for count in (100, 1_000_000):
        bank = Bank(count, SHAPES, dtype=dtype)
        optimizer, ids = kind(bank, 0.01), torch.tensor([99, 3, 50])
        with Recorder(bank) as recorder:
            for _ in range(2):
                optimizer.update(ids, {module: torch.ones(3, bank.width(module)) for module in SHAPES})
        records.append(recorder.records)
    small, large = records
    assert small == large
    assert {name for name, on_table, _ in large if on_table} == {
        "aten.index_select.default",
        "aten.index_copy_.default",
    }
    assert max(math.prod(shape) for *_, shapes in large for shape in shapes if shape != "table") < 100
