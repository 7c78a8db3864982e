"""Adam and Adafactor in place on rows of a table: against loops in f64, the dense optimizers and the bank's own."""

import math
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from transformers.optimization import Adafactor

from mome.adapter.bank import Bank
from mome.kernels.counter import stochastic_round
from mome.kernels.row_update import adafactor_, adam_
from mome.train.optim import RowAdafactor, RowAdam

IMPLS = ("reference", "triton")
KINDS = ("adam", "adafactor")
RATE = 0.03


class Table:
    """A table on the device with the state of one optimizer, and the same in f64 in numpy."""

    def __init__(self, kind: str, count: int, width: int, device: str, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(count + width)
        self.kind = kind
        # each part is a view into something larger that is not to change
        self.whole = torch.randn(count, width + 5, generator=generator).to(dtype).to(device)
        self.rows = self.whole[:, 2 : width + 2]
        self.steps = torch.zeros(count, 2, dtype=torch.int32, device=device)[:, 0]
        if kind == "adam":
            self.state = [torch.zeros(count, width + part, device=device)[:, part:] for part in (1, 3)]
        else:
            self.state = [torch.zeros(count, 3, device=device)[:, 1], torch.zeros(width, device=device)]
        self.updates = torch.tensor(0, device=device)
        self.exact = [part.double().cpu().numpy() for part in (self.rows, *self.state)]

    def update(
        self, ids: torch.Tensor, gradients: torch.Tensor, order: torch.Tensor | None = None, **more: Any
    ) -> None:
        """One step of the operation with `more` arguments, its counters first."""
        device = self.rows.device
        self.steps[ids.unique().to(device)] += 1
        self.updates += 1
        given = (ids.to(device), gradients.to(device), None if order is None else order.to(device))
        settings = {"rate": RATE, **more}
        if self.kind == "adam":
            adam_(self.rows, *self.state, self.steps, *given, **settings)
        else:
            adafactor_(self.rows, *self.state, self.steps, self.updates, *given, **settings)

    def loop(self, ids: torch.Tensor, gradients: torch.Tensor) -> None:
        """The same step in f64, row by row; `gradients` in the order of ids."""
        sums: dict[int, np.ndarray] = {}
        for number, gradient in zip(ids.tolist(), gradients.double().numpy(), strict=True):
            sums[number] = sums.get(number, 0) + gradient
        steps = {number: int(self.steps[number]) for number in sums}
        (adam_loop if self.kind == "adam" else adafactor_loop)(*self.exact, sums, steps, int(self.updates))

    def parts(self) -> list[torch.Tensor]:
        return [self.whole, *self.state]


def adam_loop(
    rows: np.ndarray, first: np.ndarray, second: np.ndarray, sums: dict[int, np.ndarray], steps: dict[int, int], _: int
) -> None:
    for number, gradient in sums.items():
        first[number] = 0.9 * first[number] + 0.1 * gradient
        second[number] = 0.999 * second[number] + 0.001 * gradient**2
        size = RATE / (1 - 0.9 ** steps[number])
        rows[number] -= size * first[number] / (np.sqrt(second[number] / (1 - 0.999 ** steps[number])) + 1e-8)


def adafactor_loop(
    rows: np.ndarray,
    of_row: np.ndarray,
    of_column: np.ndarray,
    sums: dict[int, np.ndarray],
    steps: dict[int, int],
    updates: int,
) -> None:
    squares = np.stack([gradient**2 + 1e-30 for gradient in sums.values()])
    for number, mean in zip(sums, squares.mean(axis=1), strict=True):
        weight = steps[number] ** -0.8
        of_row[number] = (1 - weight) * of_row[number] + weight * mean
    weight = updates**-0.8
    of_column[:] = (1 - weight) * of_column + weight * squares.mean(axis=0)
    numbers = list(sums)
    factor = of_row[numbers] / of_row[numbers].mean()
    change = np.stack(list(sums.values())) / np.sqrt(factor[:, None] * of_column)
    rows[numbers] -= RATE * change / max(1.0, math.sqrt(np.mean(change**2)))


def draw(repeated: int, among: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` ascending ids of which `repeated` % say again what others said."""
    distinct = max(1, round(count * (1 - repeated / 100)))
    ids = torch.randperm(among, generator=generator)[:distinct]
    return torch.cat([ids, ids[torch.randint(0, distinct, (count - distinct,), generator=generator)]]).sort().values


def draw_gradients(count: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Gradients whose size differs by row and by column."""
    size = torch.randn(count, 1, generator=generator).exp() * torch.linspace(1e-3, 2, width)
    return torch.randn(count, width, generator=generator) * size


def train(table: Table, steps: int = 3, repeated: int = 50, count: int = 13, **more: Any) -> Table:
    generator = torch.Generator().manual_seed(repeated)
    for _ in range(steps):
        ids = draw(repeated, len(table.rows), count, generator)
        order = torch.randperm(count, generator=generator)
        table.update(ids, draw_gradients(count, table.rows.shape[1], generator), order, **more)
    return table


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int16 if tensor.dtype == torch.bfloat16 else torch.int32)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("repeated", "count", "width", "dtype"),
    [
        (0, 13, 33, torch.float32),
        (50, 13, 33, torch.bfloat16),
        (100, 13, 33, torch.float16),
        (0, 1, 1, torch.float32),
        (50, 150, 7, torch.float32),
        (50, 6, 1030, torch.float32),
    ],
)
def test_equals_a_loop_in_f64(
    kind: str, impl: str, repeated: int, count: int, width: int, dtype: torch.dtype, device: str
) -> None:
    table, generator = Table(kind, 2 * count + 1, width, device), torch.Generator().manual_seed(7)
    for step in range(2):
        ids = draw(repeated, len(table.rows), count, generator)
        gradients = draw_gradients(count, width, generator).to(dtype)
        order = torch.randperm(count, generator=generator)
        if step % 2:
            table.update(ids, gradients[order.argsort()], order, impl=impl)
        else:
            table.update(ids, gradients, impl=impl)
        table.loop(ids, gradients)
    assert int((table.steps > 0).sum()) < len(table.rows)
    for found, expected in zip((table.rows, *table.state), table.exact, strict=True):
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
def test_with_all_rows_touched_it_is_the_dense_optimizer(kind: str, impl: str, device: str) -> None:
    table, generator = Table(kind, 12, 21, device), torch.Generator().manual_seed(0)
    dense, start = torch.nn.Parameter(table.rows.cpu().clone()), table.rows.cpu().clone()
    optimizer: torch.optim.Optimizer = torch.optim.Adam([dense], lr=RATE)
    if kind == "adafactor":
        optimizer = Adafactor([dense], lr=RATE, scale_parameter=False, relative_step=False, warmup_init=False)
    for _ in range(6):
        dense.grad = draw_gradients(12, 21, generator)
        optimizer.step()
        table.update(torch.arange(12), dense.grad, impl=impl)
    assert (table.rows.cpu() - start).abs().mean() > RATE / 2
    torch.testing.assert_close(table.rows.cpu(), dense.detach(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_its_own_gets_the_bits_that_a_bank_gets(kind: str, dtype: torch.dtype) -> None:
    bank = Bank(30, {"m": (9, 8)}, dtype=dtype, seed=5, init_scale=0)
    optimizer = {"adam": RowAdam, "adafactor": RowAdafactor}[kind](bank, RATE)
    table, generator = Table(kind, 30, 17, "cpu", dtype), torch.Generator().manual_seed(0)
    table.rows.zero_()
    for _ in range(8):
        ids, gradients = draw(50, 30, 12, generator), draw_gradients(12, 17, generator)
        distinct, group = ids.unique(return_inverse=True)
        summed = torch.zeros(len(distinct), 17).index_add_(0, group, gradients)
        optimizer.update(distinct, {"m": summed})
        table.update(ids, gradients, seed=5, stream=zlib.crc32(b"m"), impl="reference")
    assert table.rows.float().abs().mean() > RATE / 2
    assert torch.equal(bits(table.rows), bits(bank.tables["rows/m"]))
    assert torch.equal(table.steps, bank.steps.view(-1))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
def test_bf16_rows_are_rounded_as_a_bank_rounds_them(kind: str, impl: str, device: str) -> None:
    exact, rounded = Table(kind, 19, 33, device), Table(kind, 19, 33, device, torch.bfloat16)
    for step in range(3):
        exact.rows.copy_(rounded.rows)
        for table in (exact, rounded):
            generator = torch.Generator().manual_seed(step)
            ids = draw(50, 19, 13, generator)
            table.update(ids, draw_gradients(13, 33, generator), seed=-3, stream=2**40, impl=impl)
        touched = ids.unique().to(device)
        draws = touched + 19 * exact.steps[touched].long()
        expected = stochastic_round(exact.rows[touched], -3, 2**40, draws, impl="reference")
        assert (expected.float() != exact.rows[touched]).float().mean() > 0.5
        assert torch.equal(bits(rounded.rows[touched]), bits(expected))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_selected_keeps_its_bits(kind: str, dtype: torch.dtype, impl: str, device: str) -> None:
    table = train(Table(kind, 19, 33, device, dtype), impl=impl)
    before, steps = [part.clone() for part in table.parts()], table.steps.clone()
    ids = torch.tensor([2, 2, 18])
    table.update(ids, draw_gradients(3, 33, torch.Generator().manual_seed(0)), impl=impl)
    others = [number for number in range(19) if number not in (2, 18)]
    for found, expected in zip(table.parts(), before, strict=True):
        if len(found) == 19:
            assert torch.equal(found[others], expected[others])
            assert not torch.equal(found[2], expected[2]) and not torch.equal(found[18], expected[18])
    beside = [0, 1, *range(35, 38)]
    assert torch.equal(table.whole[:, beside], before[0][:, beside])
    steps[[2, 18]] += 1  # that of the test; the operation leaves the counters alone
    assert torch.equal(table.steps, steps)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_selected_changes_nothing(kind: str, impl: str, device: str) -> None:
    table = train(Table(kind, 19, 33, device), impl=impl)
    before = [part.clone() for part in table.parts()]
    table.update(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 33), impl=impl)
    assert all(torch.equal(found, expected) for found, expected in zip(table.parts(), before, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_added_in_the_order_given(kind: str, device: str) -> None:
    """1e8 + 1 - 1e8 is 0 in f32, which moves no row of zeros; 1e8 - 1e8 + 1 is 1."""
    gradients, ids = torch.tensor([[1e8], [1.0], [-1e8]]).expand(3, 4), torch.zeros(3, dtype=torch.int64)
    for impl in IMPLS:
        for order, moves in (([0, 1, 2], False), ([0, 2, 1], True)):
            table = Table(kind, 3, 4, device)
            table.rows.zero_()
            table.update(ids, gradients, torch.tensor(order), impl=impl)
            assert bool(table.rows.any()) == moves


@pytest.mark.parametrize("kind", KINDS)
def test_scratch_is_written_before_it_is_read_and_runs_repeat(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(Table(kind, 19, 33, device), impl="triton")
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **more: empty(*size, **more).fill_(math.nan))
    second = train(Table(kind, 19, 33, device), impl="triton")
    for found, expected in zip(second.parts(), first.parts(), strict=True):
        assert found.isfinite().all() and torch.equal(found, expected)


def test_few_programs_do_the_work_of_many(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each then walks over several blocks of positions, the last of them incomplete."""
    monkeypatch.setattr("mome.kernels.row_update.triton.MOST_PROGRAMS", 2)
    monkeypatch.setattr("mome.kernels.row_update.triton.ADAFACTOR_ELEMENTS", 256)
    found, expected = (
        train(Table("adafactor", 60, 33, device), steps=2, count=43, impl=impl) for impl in ("triton", "reference")
    )
    for values, others in zip(found.parts(), expected.parts(), strict=True):
        torch.testing.assert_close(values, others, rtol=1e-5, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_runs_on_a_gpu_give_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    def run() -> list[torch.Tensor]:
        return train(Table(kind, 5_000, 2_000, "cuda", dtype), steps=5, count=4_000, impl="triton").parts()

    first = run()
    assert all(torch.equal(*pair) for _ in range(19) for pair in zip(run(), first, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_more_than_two_to_the_31_numbers(kind: str) -> None:
    """Its rows beyond that are updated as those of a small table are."""
    count, width = 270_000, 8_192
    if torch.cuda.mem_get_info()[0] < 30 * 2**30:
        pytest.skip("needs 30 GiB of free device memory")
    generator = torch.Generator().manual_seed(0)
    ids, gradients = draw(50, 64, 48, generator), draw_gradients(48, width, generator).to(torch.bfloat16)
    ids[-5:] = 63
    numbers = torch.arange(64) * 4_285
    assert int(numbers[63]) * width > 2**31
    small, large = Table(kind, 64, width, "cuda"), Table(kind, 1, width, "cuda")
    large.rows = torch.zeros(count, width, device="cuda")
    large.rows[numbers.cuda()] = small.rows
    large.steps = torch.zeros(count, dtype=torch.int32, device="cuda")
    large.state = [part if part.shape == (width,) else part.new_zeros(count, *part.shape[1:]) for part in large.state]
    for _ in range(2):
        small.update(ids, gradients, impl="triton")
        large.update(numbers[ids], gradients, impl="triton")
    for found, expected in zip((large.rows, *large.state), (small.rows, *small.state), strict=True):
        assert torch.equal(found if found.shape == (width,) else found[numbers.cuda()], expected)
