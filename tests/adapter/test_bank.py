"""The bank: untouched rows cost nothing, written rows come back, and nothing wrong gets in."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_banks import DOWN, SHAPES, UP, assert_same, make_rows

from mome.adapter.bank import Bank, BankError


def test_untouched_rows_read_as_lora_starts() -> None:
    bank = Bank(10_000, {"m": (64, 32)}, rank=2)
    a, b = bank.split("m", bank.read(torch.arange(1_000))["m"])
    assert a.shape == (1_000, 2, 64) and b.shape == (1_000, 2, 32)
    assert not b.any()
    bound = 1 / math.sqrt(64)
    assert a.min() >= -bound and a.max() < bound
    assert a.mean().abs() < 0.01 * bound and math.isclose(a.std(), bound / math.sqrt(3), rel_tol=0.01)
    assert bank.touched().tolist() == []


def test_untouched_rows_do_not_depend_on_who_else_is_asked_for() -> None:
    rows = Bank(10, SHAPES).read(torch.tensor([7, 2, 7]))
    larger = Bank(1_000, {DOWN: SHAPES[DOWN], "other": (2, 2), UP: SHAPES[UP]}).read(torch.tensor([2]))
    for module in SHAPES:
        assert torch.equal(rows[module][1:2], larger[module])
        assert torch.equal(rows[module][0], rows[module][2])
        assert not torch.equal(rows[module][0], rows[module][1])
    assert not torch.equal(rows[UP], Bank(10, SHAPES, seed=1).read(torch.tensor([7, 2, 7]))[UP])


def test_modules_of_one_shape_start_with_rows_of_their_own() -> None:
    rows = Bank(4, {"one": (8, 2), "two": (8, 2)}).read(torch.arange(4))
    assert not torch.equal(rows["one"], rows["two"])


NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.mark.parametrize("device", ("cpu", pytest.param("cuda", marks=NEEDS_GPU)))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_blocks_for_a_device_hold_the_same_bits(dtype: torch.dtype, device: str) -> None:
    bank = Bank(50, SHAPES, rank=2, dtype=dtype)
    bank.write(torch.arange(0, 50, 2), make_rows(bank, 25))
    for ids in (torch.tensor([4, 8, 4]), torch.tensor([3, 1]), torch.tensor([49, 48, 0, 1, 48])):
        found = bank.read(ids, torch.device(device))
        assert all(rows.device.type == device for rows in found.values())
        assert_same({module: rows.cpu() for module, rows in found.items()}, bank.read(ids))


@pytest.mark.parametrize("ids", ([3, 0, 8], [5], []))
def test_written_rows_come_back_and_others_stay(ids: list[int]) -> None:
    bank = Bank(9, SHAPES, rank=2)
    before, written = bank.read(torch.arange(9)), make_rows(bank, len(ids))
    bank.write(torch.tensor(ids, dtype=torch.int64), written)
    others = [number for number in range(9) if number not in ids]
    after = bank.read(torch.arange(9))
    for module in SHAPES:
        assert torch.equal(after[module][ids], written[module])
        assert torch.equal(after[module][others], before[module][others])
    assert bank.touched().tolist() == sorted(ids)
    assert bank.steps.tolist() == [int(number in ids) for number in range(9)]


def test_what_is_read_is_a_copy() -> None:
    bank = Bank(4, SHAPES)
    bank.write(torch.tensor([1]), make_rows(bank, 1))
    kept = bank.read(torch.arange(4))
    bank.read(torch.arange(4))[UP].zero_()
    assert_same(bank.read(torch.arange(4)), kept)


def lower_by(bank: Bank, ids: torch.Tensor, change: float, times: int) -> torch.Tensor:
    bank.write(ids, {"m": torch.ones(len(ids), bank.width("m"))})
    for _ in range(times):
        bank.write(ids, {"m": bank.read(ids)["m"] - change})
    return bank.read(ids)["m"]


def test_bfloat16_rows_take_small_changes_on_average() -> None:
    found = lower_by(Bank(100, {"m": (64, 64)}, dtype=torch.bfloat16), torch.arange(64), 2e-4, 100)
    # one change is a twentieth of the spacing of bfloat16 below 1, so rounding to nearest would stay at 1
    assert math.isclose(found.mean(), 0.98, abs_tol=4 * 0.0085 / math.sqrt(found.numel()))
    assert 0.004 < found.std() < 0.013
    assert found.std(dim=0).min() > 0 and found.std(dim=1).min() > 0


def test_rounding_depends_on_seed_step_and_row_alone() -> None:
    def rounded(ids: list[int], seed: int = 0, step: int | None = None, times: int = 1) -> torch.Tensor:
        bank = Bank(50, {"m": (64, 64)}, dtype=torch.bfloat16, seed=seed)
        for _ in range(times):
            bank.write(torch.tensor(ids), {"m": torch.full((len(ids), 128), 1.0011)}, step)
        return bank.read(torch.tensor(ids))["m"]

    assert torch.equal(rounded([4, 9]), rounded([9, 4]).flip(0))
    assert torch.equal(rounded([4, 9], times=2)[:1], rounded([4], times=2))
    assert torch.equal(rounded([4], step=7, times=2), rounded([4], step=7))
    for other in (rounded([5]), rounded([4], seed=1), rounded([4], times=2), rounded([4], step=7)):
        assert not torch.equal(rounded([4]), other)


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"num_experts": 0}, "num_experts: must be a whole number of at least 1, got 0"),
        ({"num_experts": 2.5}, "num_experts: must be a whole number of at least 1, got 2.5"),
        ({"rank": -1}, "rank: must be a whole number of at least 1, got -1"),
        ({"rank": True}, "rank: must be a whole number of at least 1, got True"),
        ({"shapes": {}}, "shapes: at least one module is needed"),
        ({"shapes": {"m": (3, 0)}}, "shapes['m']: d_out: must be a whole number of at least 1, got 0"),
        ({"dtype": torch.float16}, "dtype: must be torch.float32 or torch.bfloat16, got torch.float16"),
    ),
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BankError, match=re.escape(message)):
        Bank(**{"num_experts": 5, "shapes": SHAPES, **change})


WRONG_IDS = (
    (torch.tensor([0, 5]), "ids: must lie in 0..4, got 5"),
    (torch.tensor([-1, 2]), "ids: must lie in 0..4, got -1"),
    (torch.tensor([1.0]), "ids: must be int64 [n] on the CPU, got torch.float32 [1] on cpu"),
    (torch.tensor([[1]]), "ids: must be int64 [n] on the CPU, got torch.int64 [1, 1] on cpu"),
)


@pytest.mark.parametrize(("ids", "message"), WRONG_IDS)
def test_wrong_ids_are_named(ids: torch.Tensor, message: str) -> None:
    bank = Bank(5, SHAPES)
    calls: tuple[Callable[[], object], ...] = (
        lambda: bank.read(ids),
        lambda: bank.write(ids, make_rows(bank, len(ids))),
    )
    for call in calls:
        with pytest.raises(BankError, match=re.escape(message)):
            call()
    assert bank.touched().tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({UP: None}, "rows: module 'layers.0.up' is missing"),
        ({"new": torch.zeros(2, 8)}, "rows: module 'new' is unknown"),
        ({DOWN: torch.zeros(2, 8)}, "rows['layers.1.down']: must be torch.float32 [2, 9] on the CPU, got"),
        ({DOWN: torch.zeros(2, 9).half()}, "got torch.float16 [2, 9] on cpu"),
    ),
)
def test_wrong_rows_are_named_and_nothing_is_written(change: dict[str, Any], message: str) -> None:
    bank = Bank(5, SHAPES)
    rows = {module: value for module, value in {**make_rows(bank, 2), **change}.items() if value is not None}
    with pytest.raises(BankError, match=re.escape(message)):
        bank.write(torch.tensor([1, 2]), rows)
    with pytest.raises(BankError, match="ids: must be distinct, 3 is there more than once"):
        bank.write(torch.tensor([3, 1, 3]), make_rows(bank, 3))
    assert bank.touched().tolist() == []


def test_wrong_tables_are_named() -> None:
    bank = Bank(5, SHAPES)
    table = bank.table("state", 2, torch.float32)
    assert bank.table("state", 2, torch.float32) is table and not table.any()
    for arguments, message in (
        (("state", 3, torch.float32), "table 'state': has width 2 and torch.float32, not 3 and torch.float32"),
        (("state", 2, torch.int32), "not 2 and torch.int32"),
        (("new", 2, torch.float64), "table 'new' of torch.float64: a name other than 'ids' and one of ['float32',"),
        (("ids", 1, torch.int32), "table 'ids' of torch.int32"),
        (("new", 0, torch.int32), "table 'new': width: must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(BankError, match=re.escape(message)):
            bank.table(*arguments)
