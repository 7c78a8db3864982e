"""Row-sparse optimizers: the dense ones where all rows are touched, else each row at its own pace."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.optimization import Adafactor

from mome.adapter.bank import Bank
from mome.train.optim import RowAdafactor, RowAdam, RowOptimizer

SHAPES = {"layers.0.up": (3, 5), "layers.1.down": (5, 4)}
UP, DOWN = SHAPES
OPTIMIZERS = (RowAdam, RowAdafactor)
DENSE: dict[type[RowOptimizer], Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]] = {
    RowAdam: lambda parameters: torch.optim.Adam(parameters, lr=0.02),
    RowAdafactor: lambda parameters: Adafactor(
        parameters, lr=0.02, scale_parameter=False, relative_step=False, warmup_init=False
    ),
}


def make_gradients(bank: Bank, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Gradients whose size differs by row, by column and from step to step, as those of a and b do."""
    gradients = {}
    for module in bank.shapes:
        size = torch.randn(count, 1, generator=generator).exp() * torch.linspace(1e-3, 2, bank.width(module))
        gradients[module] = torch.randn(count, bank.width(module), generator=generator) * size
    return gradients


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same names, in the same bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_with_all_rows_touched_it_is_the_dense_optimizer(kind: type[RowOptimizer]) -> None:
    bank = Bank(12, SHAPES, rank=2)
    everyone = torch.arange(12)
    dense = {module: torch.nn.Parameter(rows) for module, rows in bank.read(everyone).items()}
    start = {module: rows.detach().clone() for module, rows in dense.items()}
    optimizer, reference = kind(bank, 0.02), DENSE[kind](list(dense.values()))
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        ids = torch.randperm(12, generator=generator)
        gradients = make_gradients(bank, 12, generator)
        optimizer.update(ids, gradients)
        for module, parameter in dense.items():
            parameter.grad = torch.empty_like(parameter).index_copy_(0, ids, gradients[module])
        reference.step()
    for module, rows in bank.read(everyone).items():
        assert (rows - start[module]).abs().mean() > 0.02
        torch.testing.assert_close(rows, dense[module].detach(), rtol=1e-5, atol=1e-6)


def test_adam_takes_each_row_at_its_own_pace() -> None:
    bank = Bank(6, SHAPES)
    dense = [torch.nn.Parameter(row[None]) for row in bank.read(torch.arange(6))[UP]]
    references = [torch.optim.Adam([row], lr=0.05, betas=(0.8, 0.95), eps=1e-6) for row in dense]
    optimizer = RowAdam(bank, 0.05, betas=(0.8, 0.95), epsilon=1e-6)
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        ids = torch.randperm(6, generator=generator)[: 1 + step % 4]
        gradients = make_gradients(bank, len(ids), generator)
        optimizer.update(ids, gradients)
        for index, number in enumerate(ids.tolist()):
            dense[number].grad = gradients[UP][index, None]
            references[number].step()
    assert len(set(bank.steps.tolist())) > 2
    torch.testing.assert_close(bank.read(torch.arange(6))[UP], torch.cat(dense).detach(), rtol=1e-5, atol=1e-6)


def sparse_adafactor(rows: np.ndarray, touched: list[list[int]], gradients: list[np.ndarray], rate: float) -> None:
    """Row by row and in float64, what RowAdafactor is to do to the matrix `rows`."""
    statistic, counts, column = np.zeros(len(rows)), np.zeros(len(rows), int), np.zeros(rows.shape[1])
    for update, (ids, gradient) in enumerate(zip(touched, gradients, strict=True), start=1):
        for number, values in zip(ids, gradient, strict=True):
            counts[number] += 1
            weight = counts[number] ** -0.8
            statistic[number] = (1 - weight) * statistic[number] + weight * np.mean(values**2 + 1e-30)
        column = (1 - update**-0.8) * column + update**-0.8 * np.mean(gradient**2 + 1e-30, axis=0)
        factor = statistic[ids] / statistic[ids].mean()
        change = gradient / np.sqrt(factor[:, None] * column[None])
        rows[ids] -= rate * change / max(1.0, math.sqrt(np.mean(change**2)))


def test_adafactor_takes_each_row_at_its_own_pace() -> None:
    bank = Bank(9, SHAPES)
    expected = {module: rows.double().numpy() for module, rows in bank.read(torch.arange(9)).items()}
    optimizer = RowAdafactor(bank, 0.03)
    generator = torch.Generator().manual_seed(1)
    touched = [torch.randperm(9, generator=generator)[: 1 + step % 5] for step in range(30)]
    gradients = [make_gradients(bank, len(ids), generator) for ids in touched]
    for ids, gradient in zip(touched, gradients, strict=True):
        optimizer.update(ids, gradient)
    assert len(set(bank.steps.tolist())) > 2
    for module, rows in bank.read(torch.arange(9)).items():
        matrix = expected[module]
        sparse_adafactor(
            matrix, [ids.tolist() for ids in touched], [g[module].double().numpy() for g in gradients], 0.03
        )
        np.testing.assert_allclose(rows.numpy(), matrix, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_row_first_touched_late_starts_as_an_early_one_did(kind: type[RowOptimizer]) -> None:
    bank = Bank(3, {"m": (2, 2)})
    optimizer = kind(bank, 0.01)
    before = bank.read(torch.arange(3))["m"]
    for _ in range(2_000):
        optimizer.update(torch.tensor([0]), {"m": torch.full((1, 4), 0.3)})
    optimizer.update(torch.tensor([2]), {"m": torch.full((1, 4), 0.3)})
    after = bank.read(torch.arange(3))["m"]
    torch.testing.assert_close(before[2] - after[2], torch.full((4,), 0.01), rtol=1e-4, atol=0)
    assert torch.equal(after[1], before[1])
    assert bank.steps.tolist() == [2_000, 0, 1]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_rows_restored_without_their_state_start_anew(kind: type[RowOptimizer]) -> None:
    trained, ids, gradient = Bank(3, {"m": (2, 2)}), torch.tensor([1]), {"m": torch.full((1, 4), 0.3)}
    optimizer = kind(trained, 0.01)
    for _ in range(500):
        optimizer.update(ids, gradient)
    bank = Bank(3, {"m": (2, 2)})
    bank.restore({name: value for name, value in trained.members().items() if not name.startswith(kind.name)})
    before = bank.read(ids)["m"]
    kind(bank, 0.01).update(ids, gradient)
    torch.testing.assert_close(before - bank.read(ids)["m"], torch.full((1, 4), 0.01), rtol=1e-4, atol=0)


def train(bank: Bank, optimizer: RowOptimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randperm(bank.num_experts, generator=generator)[:5]
        optimizer.update(ids, make_gradients(bank, 5, generator))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_resumed_run_ends_in_the_same_bits(kind: type[RowOptimizer], dtype: torch.dtype, tmp_path: Path) -> None:
    whole, first = Bank(20, SHAPES, dtype=dtype), Bank(20, SHAPES, dtype=dtype, folder=tmp_path)
    optimizer, begun = kind(whole, 0.05), kind(first, 0.05)
    train(whole, optimizer, range(40))
    train(first, begun, range(15))
    saved, state = first.members(), begun.state()
    train(first, begun, range(15, 22))  # work that is lost when the run goes back to what was saved
    for bank in (Bank(20, SHAPES, dtype=dtype), first):
        bank.restore(saved)
        resumed = kind(bank, 0.05)
        resumed.load(state)
        train(bank, resumed, range(15, 40))
        assert_same(bank.members(), whole.members())
        assert_same(resumed.state(), optimizer.state())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_learning_rate_of_one_step_can_be_given(kind: type[RowOptimizer]) -> None:
    ids, moved = torch.tensor([1]), {}
    for rate in (None, 0.0, 0.02):
        bank = Bank(3, {"m": (2, 2)})
        before = bank.read(ids)["m"]
        kind(bank, 0.01).update(ids, {"m": torch.ones(1, 4)}, learning_rate=rate)
        moved[rate] = (before - bank.read(ids)["m"]).mean().item()
    assert moved[0.0] == 0
    assert moved[None] == pytest.approx(0.01, rel=1e-4) and moved[0.02] == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_rows_without_any_gradient_stay_where_they_are(kind: type[RowOptimizer]) -> None:
    bank, ids = Bank(6, SHAPES), torch.arange(6)
    optimizer, before = kind(bank, 0.1), bank.read(ids)
    zeros = {module: torch.zeros(6, bank.width(module)) for module in SHAPES}
    optimizer.update(ids, zeros)
    optimizer.update(ids[:0], {module: rows[:0] for module, rows in zeros.items()})
    assert_same(bank.read(ids), before)
    a_alone = {module: rows.clone() for module, rows in zeros.items()}
    a_alone[UP][:3] = 1.0
    optimizer.update(ids, a_alone)
    after = bank.read(ids)
    assert torch.equal(after[UP][3:], before[UP][3:]) and torch.equal(after[DOWN], before[DOWN])
    assert (after[UP][:3] - before[UP][:3]).abs().min() > 0.01


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    ("ids", "change", "rate", "message"),
    (
        ([4, 2], {DOWN: math.nan}, None, "gradients['layers.1.down']: row 2 is not finite or overflows when squared"),
        ([4, 2], {UP: math.inf}, None, "gradients['layers.0.up']: row 2 is not finite or overflows when squared"),
        ([4, 2], {UP: 1e30}, None, "gradients['layers.0.up']: row 2 is not finite or overflows when squared"),
        ([4, 4], {}, None, "ids: must be distinct, 4 is there more than once"),
        ([4, 5], {}, None, "ids: must lie in 0..4, got 5"),
        ([4, 2, 1], {}, None, "gradients['layers.0.up']: must be torch.float32 [3, 8] on the CPU, got"),
        ([4, 2], {}, -0.1, "learning_rate: must be finite and at least 0, got -0.1"),
        ([4, 2], {}, math.nan, "learning_rate: must be finite and at least 0, got nan"),
    ),
)
def test_a_step_that_is_refused_changes_nothing(
    kind: type[RowOptimizer], ids: list[int], change: dict[str, float], rate: float | None, message: str
) -> None:
    bank = Bank(5, SHAPES)
    optimizer = kind(bank, 0.01)
    train(bank, optimizer, range(3))
    before, state = bank.members(), optimizer.state()
    gradients = {module: torch.ones(2, bank.width(module)) for module in SHAPES}
    for module, value in change.items():
        gradients[module][1, 3] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.update(torch.tensor(ids), gradients, rate)
    assert_same(bank.members(), before)
    assert_same(optimizer.state(), state)


@pytest.mark.parametrize(
    ("make", "message"),
    (
        (lambda bank: RowAdam(bank, -1), "learning_rate: must be finite and at least 0, got -1"),
        (lambda bank: RowAdam(bank, 0.1, betas=(1.0, 0.9)), "betas[0]: must be at least 0 and below 1, got 1.0"),
        (lambda bank: RowAdam(bank, 0.1, betas=(0.9, -0.1)), "betas[1]: must be at least 0 and below 1, got -0.1"),
        (lambda bank: RowAdam(bank, 0.1, epsilon=0), "epsilon: must be finite and above 0, got 0"),
        (lambda bank: RowAdafactor(bank, math.inf), "learning_rate: must be finite and at least 0, got inf"),
        (lambda bank: RowAdafactor(bank, 0.1, epsilon=-1), "epsilon: must be finite and above 0, got -1"),
        (lambda bank: RowAdafactor(bank, 0.1, clip_threshold=0), "clip_threshold: must be finite and above 0, got 0"),
        (lambda bank: RowAdafactor(bank, 0.1, decay_rate=0.8), "decay_rate: must be below 0, got 0.8"),
    ),
)
def test_wrong_settings_are_named_before_a_table_is_made(make: Callable[[Bank], object], message: str) -> None:
    bank = Bank(5, SHAPES)
    tables = set(bank.tables)
    with pytest.raises(ValueError, match=re.escape(message)):
        make(bank)
    assert set(bank.tables) == tables


@pytest.mark.parametrize(
    ("name", "value", "message"),
    (
        ("steps", None, "optimizer state: 'steps' is missing"),
        ("columns/new", torch.zeros(8), "optimizer state: 'columns/new' is unknown"),
        (
            "columns/layers.0.up",
            torch.zeros(9),
            "'columns/layers.0.up' must be torch.float32 [8], got torch.float32 [9]",
        ),
        ("steps", torch.tensor(1.0), "optimizer state: 'steps' must be torch.int64 [], got torch.float32 []"),
        ("steps", torch.tensor(-1), "optimizer state: 'steps' must be at least 0, got -1"),
    ),
)
def test_optimizer_state_that_does_not_fit_is_refused(name: str, value: Any, message: str) -> None:
    bank = Bank(5, SHAPES)
    optimizer = RowAdafactor(bank, 0.01)
    train(bank, optimizer, range(3))
    state = optimizer.state()
    wrong = {key: item for key, item in {**state, name: value}.items() if item is not None}
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.load(wrong)
    assert_same(optimizer.state(), state)
    with pytest.raises(ValueError, match=r"optimizer state: '.*' is unknown"):
        RowAdam(bank, 0.01).load(state)
