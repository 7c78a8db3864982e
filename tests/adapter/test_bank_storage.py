"""The bank's storage: pages only where rows were written, files that are opened again, members that are restored."""

import json
import mmap
import re
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from tiny_banks import DOWN, SHAPES, UP, assert_same, make_rows

from mome.adapter.bank import Bank, BankError

WIDE = {"wide": (512, 512)}
PAGE = mmap.PAGESIZE


def resident(table: torch.Tensor) -> int:
    """Bytes of the pages behind `table` that are in memory, as the kernel counts them (the highest bit of each)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("counts pages with /proc/self/pagemap, which only Linux has")
    first, size = table.data_ptr() // PAGE, table.numel() * table.element_size()
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(first * 8)
        pages = numpy.frombuffer(file.read(-(-size // PAGE) * 8), numpy.uint64)
    return int((pages >> numpy.uint64(63)).sum()) * PAGE


@pytest.mark.parametrize("in_files", (False, True))
def test_of_five_million_rows_only_the_touched_pages_exist(in_files: bool, tmp_path: Path) -> None:
    bank = Bank(5_000_000, WIDE, folder=tmp_path if in_files else None)
    table = bank.tables["rows/wide"]
    assert table.numel() * 4 == 20_480_000_000
    assert resident(table) == 0
    ids = torch.arange(17, 5_000_000, 600_000)
    bank.read(ids)
    assert resident(table) == 0
    bank.write(ids, make_rows(bank, len(ids)))
    assert len(ids) * PAGE <= resident(table) <= 2 * len(ids) * PAGE
    assert resident(bank.steps) <= 2 * len(ids) * PAGE
    if in_files:
        files = list(tmp_path.glob("*.table"))
        assert sum(path.stat().st_size for path in files) > 20_000_000_000
        assert sum(path.stat().st_blocks * 512 for path in files) < 2_000_000


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_a_bank_in_files_holds_the_same_bits_and_is_opened_again(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bank"
    banks = [Bank(30, SHAPES, rank=2, dtype=dtype, seed=5, folder=place) for place in (None, folder)]
    for bank in banks:
        moments = bank.table("moments", 3, torch.float32)
        for step in range(4):
            ids = torch.tensor([step, 10 + step, 20])
            bank.write(ids, make_rows(bank, 3, seed=step))
            moments[ids] += step
    in_memory, in_files = (bank.members() for bank in banks)
    assert_same(in_files, in_memory)
    del bank, banks, moments
    again = Bank(30, SHAPES, rank=2, dtype=dtype, seed=5, folder=folder)
    assert_same(again.members(), in_memory)
    assert again.steps[20] == 4
    assert torch.equal(again.table("moments", 3, torch.float32)[20], torch.full((3,), 6.0))


@pytest.mark.parametrize(
    ("field", "found", "change"),
    (
        ("num_experts", "30", {"num_experts": 31}),
        ("rank", "1", {"rank": 2}),
        ("dtype", "'float32'", {"dtype": torch.bfloat16}),
        ("seed", "0", {"seed": 8}),
        ("shapes", "{'layers.0.up': [3, 5], 'layers.1.down': [5, 4]}", {"shapes": {UP: (5, 3), DOWN: (5, 4)}}),
    ),
)
def test_a_folder_of_another_bank_is_refused(field: str, found: str, change: dict[str, Any], tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"num_experts": 30, "shapes": SHAPES, "folder": tmp_path}
    kept = make_rows(Bank(**arguments), 1)
    Bank(**arguments).write(torch.tensor([3]), kept)
    with pytest.raises(BankError, match=re.escape(f"bank.json: {field} is {found}, asked for ")):
        Bank(**{**arguments, **change})
    assert_same(Bank(**arguments).read(torch.tensor([3])), kept)


@pytest.mark.parametrize("size", (0, 959, 961))
def test_a_file_of_the_wrong_size_is_refused(size: int, tmp_path: Path) -> None:
    Bank(30, SHAPES, folder=tmp_path)
    path = tmp_path / "rows%2Flayers.0.up.table"
    assert path.stat().st_size == 30 * 8 * 4
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(BankError, match=re.escape(f"{path}: has {size} bytes, must have 960")):
        Bank(30, SHAPES, folder=tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    Bank(30, SHAPES, folder=tmp_path)
    (tmp_path / "steps.table").unlink()
    with pytest.raises(OSError, match=r"steps\.table: a table of 120 bytes cannot be mapped: .*No such file"):
        Bank(30, SHAPES, folder=tmp_path)


@pytest.mark.parametrize("text", ("", "[]", "{}", '{"tables": {"steps": [1, "float99"]}}', '{"tables": 1}'))
def test_a_broken_description_is_refused(text: str, tmp_path: Path) -> None:
    Bank(30, SHAPES, folder=tmp_path)
    (tmp_path / "bank.json").write_text(text)
    with pytest.raises(BankError, match=r"bank\.json: does not describe a bank"):
        Bank(30, SHAPES, folder=tmp_path)


def test_a_table_left_by_a_process_that_died_before_describing_it_is_made_anew(tmp_path: Path) -> None:
    Bank(30, SHAPES, folder=tmp_path)
    (tmp_path / "moments.table").write_bytes(b"\x01" * 7)
    assert not Bank(30, SHAPES, folder=tmp_path).table("moments", 2, torch.float32).any()
    assert json.loads((tmp_path / "bank.json").read_text())["tables"]["moments"] == [2, "float32"]


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("in_files", (False, True))
def test_members_restore_the_state_they_were_saved_in(dtype: torch.dtype, in_files: bool, tmp_path: Path) -> None:
    bank = Bank(40, SHAPES, dtype=dtype, folder=tmp_path if in_files else None)
    moments = bank.table("moments", 3, torch.float32)
    for ids in ([30, 2], [2, 9]):
        bank.write(torch.tensor(ids), make_rows(bank, 2, seed=ids[0]))
        moments[ids] += torch.randn(2, 3)
    saved, rows = bank.members(), bank.read(torch.arange(40))
    assert saved["ids"].tolist() == [2, 9, 30] and saved["steps"].tolist() == [[2], [1], [1]]
    assert saved["rows/layers.0.up"].dtype == dtype
    bank.write(torch.tensor([2, 5]), make_rows(bank, 2))  # what a checkpoint restored later must take back
    moments[[2, 5]] += 1
    for target in (bank, Bank(40, SHAPES, dtype=dtype)):
        target.restore(saved)
        assert_same(target.members(), saved)
        assert_same(target.read(torch.arange(40)), rows)
        assert target.table("moments", 3, torch.float32).count_nonzero() == moments[[2, 9, 30]].count_nonzero()
        target.write(torch.tensor([2]), make_rows(bank, 1))
    assert_same(target.members(), bank.members())


def test_an_untouched_bank_has_empty_members() -> None:
    members = Bank(5, SHAPES).members()
    assert {name: list(value.shape) for name, value in members.items()} == {
        "ids": [0],
        "steps": [0, 1],
        "rows/layers.0.up": [0, 8],
        "rows/layers.1.down": [0, 9],
    }
    bank = Bank(5, SHAPES)
    bank.write(torch.tensor([3]), make_rows(bank, 1))
    bank.restore(members)
    assert_same(bank.read(torch.arange(5)), Bank(5, SHAPES).read(torch.arange(5)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    (
        ("ids", torch.tensor([1, 10]), "ids: must lie in 0..9, got 10"),
        ("ids", torch.tensor([1, 1]), "ids: must be distinct, 1 is there more than once"),
        ("ids", torch.tensor([1, 2, 3]), "members: 'steps' must be [3, 1] of torch.int32, got [2, 1] of torch.int32"),
        ("ids", None, "members: 'ids' is missing, which the bank has"),
        ("steps", None, "members: 'steps' is missing, which the bank has"),
        ("steps", torch.tensor([[1], [0]], dtype=torch.int32), "members: 'steps' must be at least 1, got 0"),
        ("moments", None, "members: 'moments' is missing, which the bank has"),
        ("moments", torch.zeros(2, 2), "'moments' must be [2, 3] of torch.float32, got [2, 2] of torch.float32"),
        ("rows/layers.0.up", torch.zeros(2, 8, dtype=torch.bfloat16), "of torch.float32, got [2, 8] of torch.bfloat16"),
        ("rows/layers.0.up", torch.zeros(2, 9), "'rows/layers.0.up' must be [2, 8] of torch.float32, got [2, 9]"),
        ("rows/layers.0.up", torch.zeros(16), "'rows/layers.0.up' must be [2, 8] of torch.float32, got [16]"),
        ("rows/new", torch.zeros(2, 8), "'rows/new' is of a module the bank does not have; it has ['layers.0.up',"),
        ("new", torch.zeros(2, 8, dtype=torch.int64), "or torch.int32, got [2, 8] of torch.int64"),
        ("new", torch.zeros(2, 0), "members: 'new' must be [2, 'width'] of"),
        ("new", torch.tensor(1.0), "got [] of torch.float32"),
    ),
)
def test_members_that_do_not_fit_are_refused_and_change_nothing(name: str, value: Any, message: str) -> None:
    bank = Bank(10, SHAPES)
    bank.table("moments", 3, torch.float32)[[4, 6]] = 1.0
    bank.write(torch.tensor([4, 6]), make_rows(bank, 2))
    before = bank.members()
    members = {key: item for key, item in {**before, name: value}.items() if item is not None}
    with pytest.raises(BankError, match=re.escape(message)):
        bank.restore(members)
    assert_same(bank.members(), before)


def test_a_table_without_room_says_its_size(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"table 'steps': 4,\d{3},.* bytes of memory cannot be mapped .*; try a folder"):
        Bank(2**60, SHAPES)
    with pytest.raises(OSError, match=r"steps\.table: a table of 4,\d{3},.* bytes cannot be mapped"):
        Bank(2**60, SHAPES, folder=tmp_path)
