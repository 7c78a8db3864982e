"""Rows out of a table: the kernel and the reference against numpy, at odd sizes, and across the link on a GPU."""

import mmap
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mome.kernels.rows_gather import _op, rows_gather

BOTH = pytest.mark.parametrize("impl", ("reference", "triton"))
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int32)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty returns NaN or the largest number, so that what a kernel leaves out is seen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def make_table(count: int, width: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.Tensor:
    generator = torch.Generator().manual_seed(count + width)
    return (100 * torch.randn(count, width, generator=generator)).to(dtype).to(device)


def taken(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The rows by numpy, through f64, which holds all these dtypes exactly."""
    rows = np.take(table.double().cpu().numpy(), ids.cpu().numpy(), axis=0)
    return torch.from_numpy(rows).to(table.dtype)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ((1, 1), (7, 5), (3000, 1), (50, 640), (9, 2049)))
def test_equals_numpy(impl: str, dtype: torch.dtype, size: tuple[int, int], device: str) -> None:
    table = make_table(*size, dtype, device)
    for ids in ([0], [size[0] - 1] * 3, torch.randint(size[0], (13,)).tolist()):
        numbers = torch.tensor(ids, device=device)
        found = rows_gather(table, numbers, impl=impl)
        assert found.dtype == dtype and found.device == table.device and found.is_contiguous()
        assert torch.equal(found.cpu(), taken(table, numbers))


@BOTH
@pytest.mark.parametrize("repeated", (0, 500, 1000))
def test_repeated_rows_come_as_often_as_asked(impl: str, repeated: int, device: str) -> None:
    table = make_table(2000, 3, device=device)
    ids = torch.randperm(2000)[:1000]
    ids[:repeated] = 7
    found = rows_gather(table, ids.to(device), impl=impl)
    assert torch.equal(found.cpu(), taken(table, ids))
    assert torch.equal(found, rows_gather(table, ids.to(device), impl=impl))


@BOTH
def test_rows_and_ids_may_lie_apart(impl: str, device: str) -> None:
    wide = make_table(40, 50, device=device)
    table, ids = wide[3:38:2, 11:30], torch.tensor([[17, 0], [0, 1], [17, 2]], device=device)[:, 0]
    assert torch.equal(rows_gather(table, ids, impl=impl).cpu(), taken(table, ids))


@BOTH
@pytest.mark.parametrize("size", ((5, 0), (5, 4)))
def test_nothing_asked_for_is_nothing(impl: str, size: tuple[int, int], device: str) -> None:
    ids = torch.zeros(0, dtype=torch.int64, device=device)
    assert rows_gather(torch.ones(size, device=device), ids, impl=impl).shape == (0, size[1])


@pytest.mark.parametrize("impl", ("auto", "reference", "triton"))
def test_the_block_is_a_copy_on_the_tables_device(impl: str, device: str) -> None:
    table = make_table(4, 3, device=device)
    before = table.clone()
    for place in (None, device, torch.device(device)):
        block = rows_gather(table, torch.tensor([2, 1], device=device), place, impl=impl)
        assert block.device == table.device
        block.zero_()
    assert torch.equal(table, before)


@BOTH
def test_it_is_a_proper_operation(impl: str, device: str) -> None:
    table = make_table(9, 4, device=device)
    torch.library.opcheck(_op, (table, torch.tensor([3, 3, 0], device=device), table.device, impl))


@pytest.mark.parametrize("impl", ("auto", "reference", "triton"))
@pytest.mark.parametrize("wrong", (-1, 9))
def test_a_row_that_is_not_there_is_named(impl: str, wrong: int) -> None:
    found = f"got {min(wrong, 4)} to {max(wrong, 4)}"
    with pytest.raises(IndexError, match=rf"rows_gather: ids must lie in \[0, 9\), {found}"):
        rows_gather(make_table(9, 4), torch.tensor([4, wrong]), impl=impl)


@pytest.mark.parametrize(
    ("table", "ids", "message"),
    (
        (torch.ones(4), torch.tensor([0]), r"table must be \[N, width\].*got \[4\]"),
        (torch.ones(4, 2, requires_grad=True), torch.tensor([0]), r"no gradient, got \[4, 2\], requires_grad=True"),
        (torch.ones(4, 2), torch.tensor([[0]]), r"ids must be \[n\] int64, got \[1, 1\]"),
        (torch.ones(4, 2), torch.tensor([0], dtype=torch.int32), "got .* torch.int32"),
        (
            torch.ones(4, 2, device="meta"),
            torch.tensor([0]),
            "table is on meta, so its rows must be too, not on cpu",
        ),
        (torch.ones(4, 2), torch.zeros(1, dtype=torch.int64, device="meta"), "ids must be on the CPU, .* got meta"),
    ),
)
def test_misuse_is_named(table: torch.Tensor, ids: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"rows_gather: .*{message}"):
        rows_gather(table, ids, "cpu")


def test_the_kernel_refuses_columns_that_lie_apart(device: str) -> None:
    table, ids = make_table(6, 8, device=device)[:, ::2], torch.tensor([5, 0], device=device)
    with pytest.raises(RuntimeError, match="impl='triton' is not possible: the table's columns lie 2 elements apart"):
        rows_gather(table, ids, impl="triton")
    assert torch.equal(rows_gather(table, ids).cpu(), taken(table, ids))


def mapped(table: torch.Tensor) -> torch.Tensor:
    """A copy of the table in a mapping of its own, as the bank has them."""
    pages = mmap.mmap(-1, table.numel() * table.element_size())
    return torch.frombuffer(pages, dtype=table.dtype).view(table.shape).copy_(table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestAcrossTheLink:
    """Tables on the CPU, blocks on the GPU."""

    @pytest.mark.parametrize("impl", ("auto", "reference", "triton"))
    @pytest.mark.parametrize("ids_on", ("cpu", "cuda"))
    def test_page_locked_tables(self, impl: str, ids_on: str) -> None:
        table, ids = make_table(3000, 700).pin_memory(), torch.randint(3000, (513,))
        found = rows_gather(table, ids.to(ids_on), "cuda", impl=impl)
        assert found.device == torch.zeros(0, device="cuda").device
        assert torch.equal(found.cpu(), taken(table, ids))

    @pytest.mark.parametrize("impl", ("auto", "reference"))
    @pytest.mark.parametrize("ids_on", ("cpu", "cuda"))
    def test_mapped_tables(self, impl: str, ids_on: str) -> None:
        table, ids = mapped(make_table(3000, 700)), torch.randint(3000, (513,))
        assert torch.equal(rows_gather(table, ids.to(ids_on), "cuda", impl=impl).cpu(), taken(table, ids))

    def test_the_kernel_does_not_reach_a_mapped_table(self) -> None:
        with pytest.raises(RuntimeError, match="the table is on the CPU, and its memory is not page-locked"):
            rows_gather(mapped(make_table(5, 4)), torch.tensor([0]), "cuda", impl="triton")

    def test_a_captured_gather_reads_what_the_table_holds_at_replay(self) -> None:
        table, ids = make_table(300, 70).pin_memory(), torch.tensor([299, 0, 7], device="cuda")
        rows_gather(table, ids, "cuda")  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = rows_gather(table, ids, "cuda")
        table.neg_()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(found.cpu(), taken(table, ids))

    def test_rows_beyond_two_to_the_31_elements(self) -> None:
        table = torch.zeros(2**20 + 1, 2**11 + 1, dtype=torch.bfloat16, device="cuda")
        table[-1] = torch.arange(2**11 + 1)
        found = rows_gather(table, torch.tensor([2**20, 0], device="cuda"), impl="triton")
        assert torch.equal(found[0], table[-1]) and not found[1].any()
