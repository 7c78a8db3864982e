"""Segment sums: against a loop in f64, whatever share of the ids repeats."""

import pytest
import torch

from mome.kernels.row_sum import reference, row_sum, segment_sum

IMPLS = ("reference", "triton")


def loop(ids: torch.Tensor, rows: torch.Tensor) -> dict[int, torch.Tensor]:
    sums: dict[int, torch.Tensor] = {}
    for number, row in zip(ids.tolist(), rows.double(), strict=True):
        sums[number] = sums.get(number, torch.zeros_like(row)) + row
    return sums


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("width", [1, 33, 768])
@pytest.mark.parametrize("among", [1, 3, 50, 10**12])
def test_equals_a_loop(among: int, width: int, impl: str, device: str):
    generator = torch.Generator().manual_seed(width)
    ids = torch.randint(0, among, (77,), generator=generator)
    rows = torch.randn(77, width, generator=generator)
    distinct, sums = row_sum(ids.to(device), rows.to(device), impl=impl)
    expected = loop(ids, rows)
    assert distinct.tolist() == sorted(expected)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(
        sums.cpu().double(), torch.stack([expected[i] for i in distinct.tolist()]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("impl", IMPLS)
def test_adds_in_the_order_given(impl: str, device: str):
    """1e8 + 1 - 1e8 is 0 in f32 and 1e8 - 1e8 + 1 is 1."""
    ids = torch.tensor([4, 9, 4, 9, 4, 9], device=device)
    rows = torch.tensor([[1e8], [1e8], [1.0], [-1e8], [-1e8], [1.0]], device=device)
    assert row_sum(ids, rows, impl=impl)[1].flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("impl", IMPLS)
def test_half_precision_rows_are_summed_in_f32(impl: str, device: str):
    rows = torch.ones(300, 2, dtype=torch.bfloat16, device=device)
    sums = row_sum(torch.zeros(300, dtype=torch.int64, device=device), rows, impl=impl)[1]
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


@pytest.mark.parametrize("impl", IMPLS)
def test_groups_without_members_sum_to_zero(impl: str, device: str):
    groups = reference.group(torch.tensor([3, 1, 3], device=device), 6)
    sums = segment_sum(*groups, torch.tensor([[1.0], [2.0], [4.0]], device=device), impl=impl)
    assert sums.flatten().tolist() == [0, 2, 0, 5, 0, 0]


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_sums_to_nothing(impl: str, device: str):
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    distinct, sums = row_sum(nothing, torch.zeros(0, 5, device=device), impl=impl)
    assert distinct.shape == (0,) and sums.shape == (0, 5)
    empty = torch.zeros(3, dtype=torch.int64, device=device)
    assert segment_sum(nothing, empty, torch.zeros(4, 2, device=device), impl=impl).tolist() == [[0, 0]] * 3
    assert segment_sum(nothing, nothing, torch.zeros(4, 2, device=device), impl=impl).shape == (0, 2)
    assert segment_sum(empty, empty[:1], torch.zeros(4, 0, device=device), impl=impl).shape == (1, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_kernel_gives_the_same_bits(dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch):
    """Of rows in any order in memory, a column beside the other or not, some of them in no group or in several."""
    rows = torch.randn(20, 3 * 1050, generator=torch.Generator().manual_seed(0)).to(dtype).to(device)
    positions = torch.tensor([4, 19, 4, 0, 7, 8, 9, 10, 11, 2], device=device)
    starts = torch.tensor([0, 0, 1, 3, 3, 9], device=device)
    for view in (rows[:, 7:1040], rows[:, :60:3]):
        expected = segment_sum(positions, starts, view, impl="reference")
        with monkeypatch.context() as patch:
            empty = torch.empty
            patch.setattr(torch, "empty", lambda *size, **more: empty(*size, **more).fill_(float("nan")))  # noqa: B023
            assert torch.equal(segment_sum(positions, starts, view, impl="triton"), expected)


@pytest.mark.parametrize("impl", IMPLS)
def test_the_operation_is_what_torch_expects_of_it(impl: str, device: str):
    groups = reference.group(torch.tensor([3, 1, 3], device=device), 4)
    torch.library.opcheck(torch.ops.mome.segment_sum.default, (*groups, torch.randn(3, 5, device=device), impl))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rows_beyond_two_to_the_31_numbers_are_found():
    rows = torch.zeros(300_000, 8_192, dtype=torch.bfloat16, device="cuda")
    rows[-2:] = torch.tensor([[1.0], [2.0]], device="cuda")
    positions = torch.tensor([299_999, 299_998, 0], device="cuda")
    sums = segment_sum(positions, torch.tensor([0, 2], device="cuda"), rows, impl="triton")
    assert (sums[0] == 3).all() and (sums[1] == 0).all()


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


NUMBERS, ROWS = torch.arange(3), torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("positions", "starts", "rows", "message"),
    [
        (NUMBERS.int(), NUMBERS, ROWS, "positions must be a vector of int64, got .*int32"),
        (NUMBERS, NUMBERS[None], ROWS, r"starts must be a vector of int64, got \[1, 3\]"),
        (NUMBERS, NUMBERS, ROWS[0], r"rows must be .*\[2\]"),
        (NUMBERS + 1, NUMBERS, ROWS, r"positions must lie in \[0, 3\), got 1 to 3"),
        (NUMBERS, NUMBERS + 1, ROWS, "starts must ascend from 0 to 3 at most, got 1 to 3"),
        (NUMBERS, NUMBERS * 2, ROWS, "starts must ascend from 0 to 3 at most, got 0 to 4"),
        (NUMBERS, torch.tensor([0, 2, 1]), ROWS, "starts must ascend"),
        (NUMBERS, NUMBERS[:0], ROWS, "3 positions but no group"),
    ],
)
def test_misuse_of_groups_is_named(positions: torch.Tensor, starts: torch.Tensor, rows: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=f"segment_sum: {message}"):
        segment_sum(positions, starts, rows)
