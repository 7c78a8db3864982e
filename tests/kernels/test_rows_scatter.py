"""Rows into a table: the kernel and the reference against numpy, at odd sizes, and across the link on a GPU."""

import mmap

import numpy as np
import pytest
import torch

from mome.kernels.rows_scatter import _op, rows_scatter

BOTH = pytest.mark.parametrize("impl", ("reference", "triton"))
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int32)


def random(count: int, width: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.Tensor:
    generator = torch.Generator().manual_seed(count * width)
    return (100 * torch.randn(count, width, generator=generator)).to(dtype).to(device)


def expected(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The table afterwards by numpy, through f64, which holds all these dtypes exactly."""
    numbers = table.double().cpu().numpy().copy()
    np.put_along_axis(numbers, ids.cpu().numpy()[:, None], rows.double().cpu().numpy(), axis=0)
    return torch.from_numpy(numbers).to(table.dtype)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ((1, 1), (7, 5), (3000, 1), (50, 640), (9, 2049)))
def test_equals_numpy(impl: str, dtype: torch.dtype, size: tuple[int, int], device: str) -> None:
    count, width = size
    for many in {1, min(5, count), count}:
        table, ids = random(*size, dtype, device), torch.randperm(count, device=device)[:many]
        rows = random(many, width + 1, dtype, device)[:, 1:]
        after = expected(table, ids, rows)
        rows_scatter(table, ids, rows, impl=impl)
        assert torch.equal(table.cpu(), after)


@BOTH
def test_what_lies_between_the_rows_stays(impl: str, device: str) -> None:
    wide = random(40, 50, device=device)
    kept, ids = wide.clone(), torch.tensor([[17, 0], [0, 1], [4, 2]], device=device)[:, 0]
    table, rows = wide[3:38:2, 11:30], random(19, 3, device=device).T
    after = expected(table, ids, rows)
    rows_scatter(table, ids, rows, impl=impl)
    assert torch.equal(table.cpu(), after)
    kept[3:38:2, 11:30] = table
    assert torch.equal(wide, kept)


@BOTH
def test_no_rows_change_nothing(impl: str, device: str) -> None:
    table = random(5, 4, device=device)
    before = table.clone()
    rows_scatter(table, torch.zeros(0, dtype=torch.int64, device=device), table[:0], impl=impl)
    assert torch.equal(table, before)


def test_no_gradient_passes() -> None:
    table, rows = torch.zeros(3, 2), torch.ones(1, 2, requires_grad=True)
    rows_scatter(table, torch.tensor([1]), rows)
    assert not table.requires_grad and table[1].tolist() == [1, 1]


@BOTH
def test_it_is_a_proper_operation(impl: str, device: str) -> None:
    table, ids = random(9, 4, device=device), torch.tensor([3, 0], device=device)
    torch.library.opcheck(_op, (table, ids, random(2, 4, device=device), impl))


@pytest.mark.parametrize("impl", ("auto", "reference", "triton"))
@pytest.mark.parametrize("wrong", (-1, 9))
def test_a_row_that_is_not_there_is_named_and_nothing_is_written(impl: str, wrong: int) -> None:
    table = torch.zeros(9, 4)
    found = f"got {min(wrong, 4)} to {max(wrong, 4)}"
    with pytest.raises(IndexError, match=rf"rows_scatter: ids must lie in \[0, 9\), {found}"):
        rows_scatter(table, torch.tensor([4, wrong]), torch.ones(2, 4), impl=impl)
    assert not table.any()


@pytest.mark.parametrize(
    ("table", "ids", "rows", "message"),
    (
        (torch.ones(4), torch.tensor([0]), torch.ones(1, 4), r"table must be \[N, width\].*got \[4\]"),
        (torch.ones(4, 2, requires_grad=True), torch.tensor([0]), torch.ones(1, 2), "requires_grad=True"),
        (torch.ones(4, 2), torch.tensor([0.0]), torch.ones(1, 2), r"ids must be \[n\] int64, got \[1\] torch.float32"),
        (torch.ones(4, 2), torch.tensor([0]), torch.ones(2, 2), r"rows must be \[1, 2\] torch.float32, got \[2, 2\]"),
        (torch.ones(4, 2), torch.tensor([0]), torch.ones(1, 2).half(), r"got \[1, 2\] torch.float16"),
        (torch.ones(4, 2, device="meta"), torch.tensor([0]), torch.ones(1, 2), "table is on meta, .* not on cpu"),
    ),
)
def test_misuse_is_named(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"rows_scatter: .*{message}"):
        rows_scatter(table, ids, rows)


def test_the_kernel_refuses_columns_that_lie_apart(device: str) -> None:
    table, ids = random(6, 8, device=device)[:, ::2], torch.tensor([5, 0], device=device)
    after = expected(table, ids, table[:2] + 1)
    with pytest.raises(RuntimeError, match="impl='triton' is not possible: the table's columns lie 2 elements apart"):
        rows_scatter(table, ids, table[:2] + 1, impl="triton")
    rows_scatter(table, ids, table[:2] + 1)
    assert torch.equal(table.cpu(), after)


def mapped(table: torch.Tensor) -> torch.Tensor:
    """A copy of the table in a mapping of its own, as the bank has them."""
    pages = mmap.mmap(-1, table.numel() * table.element_size())
    return torch.frombuffer(pages, dtype=table.dtype).view(table.shape).copy_(table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestAcrossTheLink:
    """Tables on the CPU, rows on the GPU."""

    @pytest.mark.parametrize("locked", (False, True))
    @pytest.mark.parametrize("impl", ("auto", "reference"))
    @pytest.mark.parametrize("ids_on", ("cpu", "cuda"))
    def test_the_table_holds_the_rows_when_the_call_returns(self, locked: bool, impl: str, ids_on: str) -> None:
        table = random(3000, 700).pin_memory() if locked else mapped(random(3000, 700))
        ids, rows = torch.randperm(3000)[:513], random(513, 700, device="cuda")
        after = expected(table, ids, rows)
        rows_scatter(table, ids.to(ids_on), rows, impl=impl)
        assert torch.equal(table, after)

    def test_the_kernel_does_not_reach_a_mapped_table(self) -> None:
        with pytest.raises(RuntimeError, match="the table is on the CPU, and its memory is not page-locked"):
            rows_scatter(mapped(random(5, 4)), torch.tensor([0]), torch.ones(1, 4, device="cuda"), impl="triton")

    def test_a_captured_scatter_writes_at_replay(self) -> None:
        table, ids = random(300, 70).pin_memory(), torch.tensor([299, 0], device="cuda")
        rows = torch.zeros(2, 70, device="cuda")
        rows_scatter(table, ids, rows)  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            rows_scatter(table, ids, rows)
        rows.fill_(3)
        graph.replay()
        torch.cuda.synchronize()
        assert (table[ids.cpu()] == 3).all()

    def test_rows_beyond_two_to_the_31_elements(self) -> None:
        table = torch.zeros(2**20 + 1, 2**11 + 1, dtype=torch.bfloat16, device="cuda")
        rows = torch.arange(2**11 + 1, device="cuda").bfloat16()[None]
        rows_scatter(table, torch.tensor([2**20], device="cuda"), rows, impl="triton")
        assert torch.equal(table[-1:], rows) and not table[:-1].any()
