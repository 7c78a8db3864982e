"""The gathered LoRA: outputs and gradients against a loop over experts, autograd, numeric gradients and plain LoRA."""

import pytest
import torch
from lora_cases import Case, by_definition, gradients, make_case

from mome.kernels.lora_gather import lora_gather

SIZES = [
    (1, 1, 1, 1, 1, 1, 1),
    (3, 5, 7, 11, 4, 2, 9),
    (2, 1, 8, 8, 5, 1, 10),
    (4, 6, 16, 3, 1, 3, 4),
    (2, 9, 33, 65, 32, 1, 64),
    (3, 2, 4, 4, 8, 1, 500),
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("repeats", [0.0, 0.5, 1.0])
def test_outputs_and_gradients_follow_the_definition(sizes: tuple[int, ...], repeats: float):
    case = make_case(sizes, repeats)
    result, expected = lora_gather(*case), by_definition(*case)
    towards = torch.randn_like(expected)
    torch.testing.assert_close(result, expected)
    for found, right in zip(gradients(result, case, towards), gradients(expected, case, towards), strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize("sizes", SIZES[:4])
@pytest.mark.parametrize("repeats", [0.0, 0.5, 1.0])
def test_gradients_are_the_numeric_ones(sizes: tuple[int, ...], repeats: float):
    case = make_case(sizes, repeats)
    assert torch.autograd.gradcheck(
        lambda x, a, b, w: lora_gather(x, a, b, case.ids, w), (case.x, case.a, case.b, case.w), nondet_tol=0
    )


def test_f32_is_as_close_to_f64_as_f32_can_be():
    case = make_case((4, 10, 64, 48, 8, 1, 20), 0.5, torch.float32)
    exact = Case(
        *(
            value.detach().double().requires_grad_(value.requires_grad) if value.is_floating_point() else value
            for value in case
        )
    )
    result, expected = lora_gather(*case), by_definition(*exact)
    towards = torch.randn_like(expected)
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-4)
    for found, right in zip(gradients(result, case, towards), gradients(expected, exact, towards), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), right, rtol=1e-4, atol=1e-3)


def test_every_expert_once_with_weight_one_is_plain_lora():
    case = make_case((3, 5, 16, 24, 8, 1, 8), 0.0)
    ids = torch.stack([torch.randperm(8) for _ in range(3)])
    plain = case.x @ case.a.squeeze(1).T @ case.b.squeeze(1)
    result = lora_gather(case.x, case.a, case.b, ids, torch.ones(3, 8, dtype=torch.float64))
    torch.testing.assert_close(result, plain)
    towards, inputs = torch.randn_like(plain), (case.x, case.a, case.b)
    for found, right in zip(
        torch.autograd.grad(result, inputs, towards), torch.autograd.grad(plain, inputs, towards), strict=True
    ):
        torch.testing.assert_close(found, right)


def test_experts_whose_output_side_is_zero_add_exactly_nothing():
    case = make_case(dtype=torch.float32)
    assert not lora_gather(case.x, case.a, torch.zeros_like(case.b), case.ids, case.w).any()


def test_autocast_sets_the_products_and_leaves_the_gradients_f32():
    case = make_case((4, 10, 64, 48, 8, 1, 20), 0.5, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        result = lora_gather(*case)
    assert result.dtype == torch.bfloat16
    expected = by_definition(*case)
    towards = torch.randn_like(expected)
    assert (result - expected).norm() < 0.02 * expected.norm()
    for found, right in zip(gradients(result, case, towards), gradients(expected, case, towards), strict=True):
        assert found.dtype == torch.float32
        assert (found - right).norm() < 0.02 * right.norm()


def test_repeats_are_added_in_f32_also_when_products_are_bf16():
    """300 questions that pull one expert by the same small step: bf16 sums would stop growing at 256 steps."""
    x, w = torch.ones(300, 1, 2), torch.ones(300, 1)
    a, b = torch.ones(1, 1, 2, requires_grad=True), torch.ones(1, 1, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        lora_gather(x, a, b, torch.zeros(300, 1, dtype=torch.int64), w).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.flatten().tolist() == [600.0, 600.0]
    assert b.grad.flatten().tolist() == [600.0, 600.0]


def test_a_bf16_table_under_f32_inputs():
    case = make_case(dtype=torch.float32)
    a, b = (table.detach().bfloat16().requires_grad_() for table in (case.a, case.b))
    result = lora_gather(case.x, a, b, case.ids, case.w)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result, by_definition(case.x, a.float(), b.float(), case.ids, case.w), rtol=1e-4, atol=1e-4
    )
    result.sum().backward()
    assert a.grad is not None and a.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("repeats", [0.0, 0.3, 1.0])
def test_two_runs_give_the_same_bits(repeats: float):
    case = make_case((8, 6, 64, 64, 16, 1, 40), repeats, torch.float32)
    towards = torch.randn(8, 6, 64)
    runs = []
    for _ in range(3):
        result = lora_gather(*case)
        runs.append((result, *gradients(result, case, towards)))
    for other in runs[1:]:
        assert all(torch.equal(first, second) for first, second in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (4,), (1, 2), (0, 4)])
def test_only_the_gradients_asked_for_are_made(wanted: tuple[int, ...]):
    case = make_case()
    everything = gradients(lora_gather(*case), case, torch.ones(3, 5, 11))
    expected = dict(zip((0, 1, 2, 4), everything, strict=True))
    arguments = [value.detach().requires_grad_(i in wanted) for i, value in enumerate(case)]
    lora_gather(*arguments).sum().backward()
    for i, argument in enumerate(arguments):
        if i in wanted:
            torch.testing.assert_close(argument.grad, expected[i])
        else:
            assert argument.grad is None


def test_a_frozen_input_keeps_no_more_than_its_gradients_need():
    """With x and w frozen, the gathered input sides are not kept for the backward."""
    case = make_case((2, 3, 100, 50, 4, 1, 8), dtype=torch.float32)
    kept: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(tuple(value.shape)) or value, lambda v: v):
        lora_gather(case.x.detach(), case.a, case.b, case.ids, case.w.detach())
    assert (2, 4, 100) not in kept
    assert (2, 4, 50) in kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(3, 7)}, r"need x \[Q, T, d_in\].*'x': \(3, 7\)"),
        ({"x": torch.ones(3, 5, 8)}, r"a must be \[n, R, d_in of x\]"),
        ({"b": torch.ones(8, 2, 11)}, r"b \[n, R, d_out\]"),
        ({"w": torch.ones(3, 5)}, r"ids and w must both be \[Q of x, K\]"),
        ({"ids": torch.zeros(2, 4, dtype=torch.int64), "w": torch.ones(2, 4)}, r"ids and w must both be \[Q of x, K\]"),
        ({"ids": torch.zeros(3, 4, dtype=torch.int32)}, "ids must be int64, got torch.int32"),
        ({"ids": torch.full((3, 4), 9)}, r"ids must lie in \[0, 9\), got 9 to 9"),
        ({"ids": torch.full((3, 4), -1)}, r"ids must lie in \[0, 9\), got -1 to -1"),
    ],
)
def test_misuse_is_named(change: dict[str, torch.Tensor], message: str):
    with pytest.raises(ValueError, match=message):
        lora_gather(*make_case()._replace(**change))
