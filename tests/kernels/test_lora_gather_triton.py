"""The gathered LoRA's kernels against a loop over experts in f64; interpreted where there is no GPU."""

from typing import Any

import pytest
import torch
from lora_cases import BF16, F32, TOLERANCE, Case, assert_near, by_definition, gradients, make_case, moved
from torch import Tensor

from mome.kernels.lora_gather import lora_gather, lora_gather_backward, lora_gather_forward

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def assert_right(case: Case, y: Tensor | None, device: str, tolerance: float, autocast: bool = False) -> None:
    """Result and gradients of the kernel against those of the definition in f64."""
    exact = Case(*moved(case, "cpu", torch.float64))
    expected = by_definition(*exact) + (0 if y is None else y.double())
    case = Case(*moved(case, device))
    own = None if y is None else y.to(device).requires_grad_()
    with torch.autocast(device, BF16, enabled=autocast):
        result = lora_gather(*case, own, impl="triton")
    towards = torch.randn(expected.shape).to(result.dtype)
    assert_near(result, expected, tolerance)
    if own is not None:
        assert result.dtype == own.dtype
        assert torch.equal(torch.autograd.grad(result, own, towards.to(device), retain_graph=True)[0].cpu(), towards)
    found = gradients(result, case, towards.to(device))
    for value, right, argument in zip(found, gradients(expected, exact, towards), case[:3] + case[4:], strict=True):
        assert value.dtype == argument.dtype
        assert_near(value, right, tolerance)


@pytest.mark.parametrize(
    ("sizes", "dtype", "with_y"),
    [
        ((1, 1, 1, 1, 1, 1, 1), F32, False),
        ((2, 1, 40, 24, 5, 1, 7), BF16, True),
        ((1, 35, 150, 70, 5, 3, 4), F32, True),
        ((2, 35, 20, 70, 5, 3, 4), BF16, False),
        ((3, 2, 7, 11, 32, 1, 9), F32, False),
        ((1, 17, 20, 140, 11, 7, 3), F32, False),
        ((1, 20, 5, 300, 11, 7, 3), BF16, True),
    ],
)
def test_outputs_and_gradients_follow_the_definition(
    sizes: tuple[int, ...], dtype: torch.dtype, with_y: bool, device: str
):
    case = make_case(sizes, 0.5, dtype)
    y = torch.randn(sizes[0], sizes[1], sizes[3]).to(dtype) if with_y else None
    assert_right(case, y, device, TOLERANCE[dtype])


@pytest.mark.parametrize("programs", [1, 5])
def test_few_programs_do_the_work_of_many(programs: int, monkeypatch: pytest.MonkeyPatch, device: str):
    """So that each goes through several blocks of d, in one part or two, and takes the largest tiles of tokens."""
    from mome.kernels.lora_gather import triton

    monkeypatch.setattr(triton, "PROGRAMS", programs)
    assert_right(make_case((1, 40, 290, 150, 2, 3, 4), 0.5, F32), None, device, TOLERANCE[F32])


@pytest.mark.parametrize("repeats", [0.0, 1.0])
def test_an_expert_may_be_chosen_any_number_of_times(repeats: float, device: str):
    assert_right(make_case((3, 4, 20, 30, 6, 1, 18), repeats, F32), None, device, TOLERANCE[F32])


def test_f16_and_f32_tables_and_autocast(device: str):
    # in numbers that bf16 has: the interpreter cuts digits off where a GPU rounds
    case = Case(*moved(moved(make_case((1, 5, 33, 20, 4, 2, 3), 0.5, F32), "cpu", BF16), "cpu", F32))
    y = torch.randn(1, 5, 20)
    assert_right(case, y.bfloat16(), device, 0.02, autocast=True)
    assert_right(case, y, device, 0.02, autocast=True)
    assert_right(Case(*moved(case, "cpu", torch.float16)), y.half(), device, 0.004)
    x, _, _, ids, w = Case(*moved(case, "cpu", BF16))
    assert_right(Case(x, case.a, case.b, ids, w), y, device, 0.02)


def test_tables_may_be_views_of_one(device: str):
    sizes = (2, 3, 20, 12, 4, 3, 6)
    case = make_case(sizes, 0.5, F32)
    bank = torch.cat([case.a.flatten(1), torch.full((6, 5), torch.nan), case.b.flatten(1)], dim=1).detach()
    a, _, b = bank.to(device).requires_grad_().split([60, 5, 36], dim=1)
    given = Case(*moved(case, device))
    result = lora_gather(given.x, a.unflatten(1, (3, 20)), b.unflatten(1, (3, 12)), given.ids, given.w, impl="triton")
    assert torch.equal(result, lora_gather(*given, impl="triton"))


def test_other_arguments_may_have_any_strides(device: str):
    given = Case(*moved(make_case((3, 4, 6, 5, 2, 1, 4), 0.5, F32), device))
    y = torch.randn(3, 5, 4, device=device).mT
    spread = [torch.stack([value, value], dim=-1)[..., 0] for value in (given.x, given.ids, given.w)]
    result = lora_gather(spread[0], given.a, given.b, spread[1], spread[2], y, impl="triton")
    assert torch.equal(result, lora_gather(*given, y.contiguous(), impl="triton"))
    found = torch.autograd.grad(result.sum(), given.a)[0]
    right = torch.autograd.grad(lora_gather(*given, impl="triton"), given.a, torch.ones(3, 4, 5, device=device))[0]
    assert torch.equal(found, right)


def test_a_question_of_zero_weights_gets_exactly_its_y_and_leaves_its_experts_alone(device: str):
    case = make_case((3, 4, 20, 12, 4, 1, 12), 0.0, F32)
    w = case.w.detach().clone()
    w[1] = 0
    case = Case(*moved(case._replace(w=w.requires_grad_()), device))
    y = torch.randn(3, 4, 12, device=device)
    result = lora_gather(*case, y, impl="triton")
    assert torch.equal(result[1], y[1]) and not torch.equal(result[0], y[0])
    of_x, of_a, of_b, of_w = gradients(result, case, torch.ones_like(result))
    others = torch.ones(12, dtype=torch.bool)
    others[case.ids[1].cpu()] = False
    assert not of_x[1].any() and not of_a[~others].any() and not of_b[~others].any()
    assert of_x[0].any() and of_w[1].all() and of_a[others].flatten(1).any(dim=1).all()


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (4,), (1, 2), (0, 4)])
def test_only_the_gradients_asked_for_are_made(wanted: tuple[int, ...], device: str):
    """Each is near what it is when all are made: their parts may be added in another order."""
    sizes = (1, 3, 20, 140, 3, 2, 5)
    case = Case(*moved(make_case(sizes, 0.5, F32), device))
    everything = gradients(lora_gather(*case, impl="triton"), case, torch.ones(1, 3, 140, device=device))
    expected = dict(zip((0, 1, 2, 4), everything, strict=True))
    arguments = [value.detach().requires_grad_(i in wanted) for i, value in enumerate(case)]
    lora_gather(*arguments, impl="triton").sum().backward()
    for i, argument in enumerate(arguments):
        if i in wanted:
            assert_near(argument.grad, expected[i].double().cpu(), 1e-6)
        else:
            assert argument.grad is None


def test_every_element_of_the_results_is_written(monkeypatch: pytest.MonkeyPatch, device: str):
    empty = torch.empty

    def poisoned(*args: Any, **settings: Any) -> Tensor:
        return empty(*args, **settings).fill_(torch.nan)

    monkeypatch.setattr(torch, "empty", poisoned)
    assert_right(make_case((1, 17, 140, 33, 3, 3, 3), 0.5, F32), torch.randn(1, 17, 33), device, TOLERANCE[F32])


@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=[pytest.mark.gpu, needs_gpu])])
def test_runs_give_the_same_bits(runs: int, device: str):
    sizes = (8, 128, 1024, 2048, 32, 1, 100) if runs == 20 else (2, 20, 140, 40, 4, 1, 5)
    case = Case(*moved(make_case(sizes, 0.5, F32), device, BF16))
    towards, y = torch.randn(2, *sizes[:2], sizes[3], device=device).bfloat16()
    found = []
    for _ in range(runs):
        result = lora_gather(*case, y, impl="triton")
        found.append((result, *gradients(result, case, towards)))
    for other in found[1:]:
        assert all(torch.equal(left, right) for left, right in zip(found[0], other, strict=True))


@pytest.mark.gpu
@needs_gpu
def test_rows_past_two_to_the_31_elements(device: str):
    count, d = 300_000, 4096
    bank = torch.empty(count, 2 * d, dtype=BF16, device=device)
    assert bank.numel() > 2**31
    ids = torch.stack([torch.arange(32), count - 32 + torch.arange(32)]).to(device)
    block = torch.randn(64, 2 * d, dtype=BF16, device=device)
    bank[ids.flatten()] = block
    x, gradient = torch.randn(2, 2, 9, d, dtype=BF16, device=device)
    w, places = torch.rand(2, 32, device=device), torch.arange(64, device=device).view(2, 32)
    far, near = (table.unsqueeze(1).split(d, dim=2) for table in (bank, block))
    result, hidden = lora_gather_forward(x, *far, ids, w, impl="triton")
    expected, _ = lora_gather_forward(x, *near, places, w, impl="triton")
    assert torch.equal(result, expected)
    assert_near(result, by_definition(*moved((x, *near, places, w), "cpu", torch.float64)), 0.02)
    found = lora_gather_backward(gradient, x, *far, ids, w, hidden, impl="triton")
    right = lora_gather_backward(gradient, x, *near, places, w, hidden, impl="triton")
    assert all(torch.equal(*both) for both in zip(found, right, strict=True))
