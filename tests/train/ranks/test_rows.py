"""Rows come from their owners as they were stored, go back as they were trained, and cost what the formula says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from rank_threads import ThreadRanks, together
from tiny_memory import tuner
from torch import Tensor

from mome.adapter.bank import Bank
from mome.adapter.config import MomeConfig
from mome.lm.loading import load_backbone
from mome.train.optim import RowAdam
from mome.train.ranks.rows import bytes_of_group, fetch, foreign, gathered, send_home, table_names, width

SHAPES = {"up": (3, 5), "down": (5, 2)}
IDS = {0: [0, 3, 4, 9], 1: [1, 2, 7, 90], 2: [5, 6, 8, 11]}


def trained(ids: Tensor, dtype: torch.dtype, steps: int = 1) -> Bank:
    """A bank whose rows `ids` took some steps of Adam."""
    bank = Bank(100, SHAPES, dtype=dtype)
    optimizer, draws = RowAdam(bank, 0.1), torch.Generator().manual_seed(3)
    every = {module: torch.randn(100, bank.width(module), generator=draws) for module in SHAPES}
    for _ in range(steps):
        optimizer.update(ids, {module: values[ids] for module, values in every.items()})
    return bank


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_travel_with_all_that_is_kept_of_them(dtype: torch.dtype) -> None:
    expected = trained(torch.arange(100), dtype).members()

    def part(ranks: ThreadRanks) -> dict[str, Tensor] | None:
        bank, ids = trained(torch.arange(ranks.rank, 100, 3), dtype), torch.tensor(IDS[ranks.rank])
        fetch(ranks, bank, ids, table_names(bank))
        for name, table in bank.tables.items():
            assert torch.equal(table[ids], expected[name][ids])
        send_home(ranks, bank, ids)
        assert torch.equal(bank.touched(), torch.arange(ranks.rank, 100, 3))  # its own again, and no others
        assert not any(table[foreign(ranks, ids)].any() for table in bank.tables.values())
        return gathered(ranks, bank, optimizer=True)

    (found, *others), _ = together(3, part)
    assert others == [None, None] and equal(found, expected)


def test_rows_that_are_trained_elsewhere_end_as_if_they_had_stayed() -> None:
    def part(ranks: ThreadRanks) -> dict[str, Tensor] | None:
        bank, ids = trained(torch.arange(ranks.rank, 100, 3), torch.float32), torch.tensor(IDS[ranks.rank])
        fetch(ranks, bank, ids, table_names(bank))
        draws = torch.Generator().manual_seed(3)
        every = {module: torch.randn(100, bank.width(module), generator=draws) for module in SHAPES}
        RowAdam(bank, 0.1).update(ids, {module: values[ids] for module, values in every.items()})
        send_home(ranks, bank, ids)
        return gathered(ranks, bank, optimizer=False)

    (found, *_), _ = together(3, part)
    visited = torch.tensor(sorted(id for ids in IDS.values() for id in ids))
    for name, values in trained(torch.arange(100), torch.float32, steps=2).members(optimizer=False).items():
        assert torch.equal(found[name][visited], values[visited])


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_a_group_costs_what_the_page_says(dtype: torch.dtype, size: int) -> None:
    """A row has (d_in + d_out) values of each module, two averages of Adam for each in float32, and two counters."""
    row = (3 + 5 + 5 + 2) * (size + 8) + 4 + 4
    away = sum(id % 3 != rank for rank, ids in IDS.items() for id in ids)

    def part(ranks: ThreadRanks) -> tuple[int, int]:
        bank, ids = trained(torch.arange(ranks.rank, 100, 3), dtype), torch.tensor(IDS[ranks.rank])
        fetch(ranks, bank, ids, table_names(bank))
        send_home(ranks, bank, ids)
        return ranks.sent, bytes_of_group(bank, table_names(bank), away, 3, back=True)

    found, moved = together(3, part)
    assert moved == sum(sent for sent, _ in found) == found[0][1] == 2 * away * (8 + row) + 4 * 8 * 3 * 2


def test_the_page_says_what_a_row_of_tiny_llama_has() -> None:
    bank = tuner(get_peft_model(load_backbone("tiny-llama", "cpu").model, MomeConfig())).bank
    RowAdam(bank, 0.1)
    values, row = sum(bank.width(module) for module in bank.shapes), width(bank, table_names(bank))
    page = (Path(__file__).parents[3] / "notebooks" / "book" / "many_ranks.md").read_text("utf-8")
    assert row == 12 * values + 8 and f"tiny-llama W is {values:,} and B {row:,}" in page
    assert f"at most {2 * 256 * 32 * 3 // 4 * (8 + row) / 1e6:.0f} MB" in page


def test_ranks_without_rows_take_part() -> None:
    def part(ranks: ThreadRanks) -> Any:
        bank, nothing = Bank(10, SHAPES), torch.zeros(0, dtype=torch.int64)
        fetch(ranks, bank, nothing, table_names(bank))
        send_home(ranks, bank, nothing)
        members = gathered(ranks, bank, optimizer=False)
        return members and members["ids"].tolist()

    assert together(2, part)[0] == [[], None]
