"""The gathered LoRA's operators: their form, gradients for each selection apart, and what both implementations say."""

from typing import Any

import pytest
import torch
from lora_cases import BF16, F32, TOLERANCE, Case, assert_near, by_definition, gradients, make_case, moved

from mome.kernels.lora_gather import lora_gather, lora_gather_backward, lora_gather_forward, op

WITHOUT_GRADIENTS = ("test_schema", "test_faketensor")


@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("needs", [("x", "a", "b", "w"), ("b",), ("a", "w"), ("x",), ()])
def test_gradients_for_each_selection_apart(impl: str, needs: tuple[str, ...], device: str):
    questions, k, rank = 3, 5, 2
    case = make_case((questions, 4, 20, 30, k, rank, 4), 0.5, F32)
    rows = [table.detach().double()[case.ids].requires_grad_() for table in (case.a, case.b)]
    apart = torch.arange(questions * k).view(questions, k)
    exact = Case(*moved(case, "cpu", torch.float64))._replace(
        a=rows[0].flatten(0, 1), b=rows[1].flatten(0, 1), ids=apart
    )
    result = by_definition(*exact)
    gradient = torch.randn(result.shape)
    of_x, of_a, of_b, of_w = torch.autograd.grad(result, (exact.x, *rows, exact.w), gradient.double())
    x, a, b, ids, w = moved(case, device)
    out, hidden = lora_gather_forward(x, a, b, ids, w, impl=impl)
    assert_near(out, result.detach(), TOLERANCE[F32])
    assert not out.requires_grad and hidden.shape == (questions, 4, k * rank)
    found = lora_gather_backward(gradient.to(device), x, a, b, ids, w, hidden, needs=needs, impl=impl)
    sides = [side.flatten(2) for name, side in (("a", of_a), ("b", of_b)) if name in needs]
    for value, right, asked in (
        (found.x, of_x, "x" in needs),
        (found.rows, torch.cat(sides, dim=2) if sides else None, bool(sides)),
        (found.w, of_w, "w" in needs),
    ):
        assert (value is not None) == asked
        if value is not None:
            assert value.dtype == F32
            assert_near(value, right, TOLERANCE[F32])


@pytest.mark.parametrize(("impl", "dtype"), [("reference", F32), ("triton", BF16)])
def test_operators_are_well_formed(impl: str, dtype: torch.dtype, device: str):
    x, a, b, ids, w = Case(*moved(make_case((2, 3, 6, 5, 3, 2, 4), 0.5, F32), device))
    y = torch.randn(2, 3, 5, device=device, requires_grad=True)
    torch.library.opcheck(op.forward, (x, a, b, ids, w, y, dtype, impl))
    torch.library.opcheck(op.forward, (x, a, b, ids, w, None, dtype, impl), test_utils=WITHOUT_GRADIENTS)
    x, a, b, w = (value.detach() for value in (x, a, b, w))
    hidden = torch.randn(2, 3, 6, device=device).to(dtype)
    inputs = (y.detach(), x, a, b, ids, w, hidden)
    torch.library.opcheck(op.backward, (*inputs, [True] * 4, 2, dtype, impl), test_utils=WITHOUT_GRADIENTS)
    inputs = (y.detach(), None, None, None, ids, w, hidden)
    needs = [False, False, True, False]
    torch.library.opcheck(op.backward, (*inputs, needs, 2, dtype, impl), test_utils=WITHOUT_GRADIENTS)
    rows = torch.randn(2, 3, 22, device=device)
    torch.library.opcheck(op.table_gradient, (rows, ids, 4, impl), test_utils=WITHOUT_GRADIENTS)


def test_the_operator_has_the_gradients_of_the_function(device: str):
    case = Case(*moved(make_case((2, 3, 6, 5, 3, 2, 4), 0.5, F32), device))
    result, _ = op.forward(*case, None, F32, "reference")
    towards = torch.randn_like(result)
    right = gradients(lora_gather(*case, impl="reference"), case, towards)
    assert all(torch.equal(*both) for both in zip(gradients(result, case, towards), right, strict=True))


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_y_is_added_as_by_hand(dtype: torch.dtype):
    case = make_case(dtype=F32)
    y = torch.randn(3, 5, 11).to(dtype).requires_grad_()
    with torch.autocast("cpu", BF16):
        result, expected = lora_gather(*case, y), y + lora_gather(*case).to(dtype)
    assert result.dtype == dtype and torch.equal(result, expected)
    inputs, towards = (y, case.x, case.a, case.b, case.w), torch.randn(3, 5, 11).to(dtype)
    for found, right in zip(
        torch.autograd.grad(result, inputs, towards), torch.autograd.grad(expected, inputs, towards), strict=True
    ):
        assert torch.equal(found, right)


def test_what_the_kernel_cannot_do_is_said(device: str):
    for case, message in (
        (make_case(), "float64 is not supported by the kernel"),
        (make_case((1, 1, 2, 2, 129, 2, 300), 0.0, F32), "at most 256 slices K\\*R, got 258"),
        (make_case((2, 0, 3, 3, 2, 1, 4), 0.0, F32), "no empty tensors"),
    ):
        given = moved(case, device)
        with pytest.raises(RuntimeError, match=message):
            lora_gather(*given, impl="triton")
        assert torch.equal(lora_gather(*given), lora_gather(*given, impl="reference"))
    x, a, b, ids, w = moved(make_case((1, 1, 2, 2, 2, 2, 3), 0.0, F32), device)
    with pytest.raises(RuntimeError, match="each expert's slices are contiguous"):
        lora_gather(x, a.transpose(1, 2).contiguous().transpose(1, 2), b, ids, w, impl="triton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient": torch.ones(3, 5, 10)}, r"gradient must be \[Q, T of x, d_out of b\], got \(3, 5, 10\)"),
        ({"hidden": torch.ones(3, 5, 4)}, r"hidden must be \[Q, T, K\*R\] = \(3, 5, 8\), got \(3, 5, 4\)"),
        ({"needs": ("a", "y")}, "needs are among x, a, b, w, got 'y'"),
        ({"ids": torch.full((3, 4), 9)}, r"ids must lie in \[0, 9\), got 9 to 9"),
    ],
)
def test_misuse_of_the_backward_is_named(change: dict[str, Any], message: str):
    given = make_case()._asdict() | {"gradient": torch.ones(3, 5, 11), "hidden": torch.ones(3, 5, 8)}
    with pytest.raises(ValueError, match=message):
        lora_gather_backward(**given | change)


def test_y_must_fit():
    with pytest.raises(ValueError, match=r"y must be \[Q, T of x, d_out of b\], got \(3, 5, 1\)"):
        lora_gather(*make_case(), torch.ones(3, 5, 1))


@pytest.mark.parametrize("sizes", [(0, 3, 4, 5, 2, 1, 3), (2, 0, 4, 5, 2, 1, 3), (2, 3, 4, 5, 0, 1, 3)])
def test_without_questions_tokens_or_experts_nothing_is_added(sizes: tuple[int, ...]):
    case = make_case(sizes, 0.0, F32)
    y = torch.randn(sizes[0], sizes[1], sizes[3])
    result = lora_gather(*case, y)
    assert torch.equal(result, y)
    for found, argument in zip(gradients(result, case, y), case[:3] + case[4:], strict=True):
        assert torch.equal(found, torch.zeros_like(argument))
