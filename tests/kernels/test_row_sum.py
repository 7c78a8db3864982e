"""Segment sums: against a loop in f64, whatever share of the ids repeats."""

import pytest
import torch

from mome.kernels.row_sum import reference, row_sum


def loop(ids: torch.Tensor, rows: torch.Tensor) -> dict[int, torch.Tensor]:
    sums: dict[int, torch.Tensor] = {}
    for number, row in zip(ids.tolist(), rows.double(), strict=True):
        sums[number] = sums.get(number, torch.zeros_like(row)) + row
    return sums


@pytest.mark.parametrize("width", [1, 33, 768])
@pytest.mark.parametrize("among", [1, 3, 50, 10**12])
def test_equals_a_loop(among: int, width: int):
    generator = torch.Generator().manual_seed(width)
    ids = torch.randint(0, among, (77,), generator=generator)
    rows = torch.randn(77, width, generator=generator)
    distinct, sums = row_sum(ids, rows)
    expected = loop(ids, rows)
    assert distinct.tolist() == sorted(expected)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(
        sums.double(), torch.stack([expected[i] for i in distinct.tolist()]), rtol=1e-5, atol=1e-5
    )


def test_adds_in_the_order_given():
    """1e8 + 1 - 1e8 is 0 in f32 and 1e8 - 1e8 + 1 is 1."""
    ids = torch.tensor([4, 9, 4, 9, 4, 9])
    rows = torch.tensor([[1e8], [1e8], [1.0], [-1e8], [-1e8], [1.0]])
    assert row_sum(ids, rows)[1].flatten().tolist() == [0.0, 1.0]


def test_half_precision_rows_are_summed_in_f32():
    sums = row_sum(torch.zeros(300, dtype=torch.int64), torch.ones(300, 2, dtype=torch.bfloat16))[1]
    assert sums.dtype == torch.float32
    assert sums.tolist() == [[300.0, 300.0]]


def test_two_runs_and_two_thread_counts_give_the_same_bits():
    ids, rows = torch.randint(0, 40, (3000,)), torch.randn(3000, 257)
    expected = row_sum(ids, rows)[1]
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(row_sum(ids, rows)[1], expected)
    finally:
        torch.set_num_threads(threads)


def test_groups_without_members_sum_to_zero():
    groups = reference.group(torch.tensor([3, 1, 3]), 6)
    sums = reference.sum_groups(groups, torch.tensor([[1.0], [2.0], [4.0]]))
    assert sums.flatten().tolist() == [0, 2, 0, 5, 0, 0]


def test_nothing_sums_to_nothing():
    distinct, sums = row_sum(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5))
    assert distinct.shape == (0,) and sums.shape == (0, 5)


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        (torch.zeros(2, dtype=torch.int32), torch.zeros(2, 3), "ids must be .*int32"),
        (torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 3), r"ids must be .*\[2, 1\]"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2), r"rows must be .*\[2\]"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64), "rows must be .*int64"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(3, 3), "2 ids but 3 rows"),
    ],
)
def test_misuse_is_named(ids: torch.Tensor, rows: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        row_sum(ids, rows)
