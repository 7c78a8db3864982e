"""Arguments of the wrong kind are refused by name before any implementation starts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mome.kernels.counter import uniform
from mome.kernels.lora_gather import lora_gather, lora_gather_backward, lora_gather_forward
from mome.kernels.row_update import adafactor_, adam_
from mome.kernels.rows_gather import rows_gather
from mome.kernels.topk_flat import topk_flat
from mome.kernels.topk_product_key import topk_product_key

X, A, B = torch.ones(2, 3, 4), torch.ones(5, 1, 4), torch.ones(5, 1, 6)
IDS, W = torch.tensor([[0, 1], [2, 3]]), torch.ones(2, 2)


def gathered(**changes: Any) -> Any:
    return lora_gather(**{"x": X, "a": A, "b": B, "ids": IDS, "w": W, **changes})


def stepped(function: Any, **changes: Any) -> Any:
    tables = {"exp_avg": torch.zeros(5, 3), "exp_avg_sq": torch.zeros(5, 3)}
    if function is adafactor_:
        tables = {"row_average": torch.zeros(5), "column_average": torch.zeros(3), "updates": torch.tensor(1)}
    given = {"rows": torch.ones(5, 3), **tables, "steps": torch.ones(5, dtype=torch.int32)}
    given |= {"ids": torch.tensor([0, 2]), "gradients": torch.ones(2, 3), "rate": 0.1}
    return function(**{**given, **changes})


@pytest.mark.parametrize("name", ["x", "a", "b", "w", "y"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_lora_gather_takes_floating_point_only(name: str, dtype: torch.dtype) -> None:
    values = {"x": X, "a": A, "b": B, "w": W, "y": torch.ones(2, 3, 6)}
    with pytest.raises(ValueError, match=f"lora_gather: {name} must be floating point, got {dtype}"):
        gathered(**{name: values[name].to(dtype)})


def test_lora_gather_backward_takes_floating_point_only() -> None:
    y, hidden = lora_gather_forward(X, A, B, IDS, W)
    with pytest.raises(ValueError, match=r"lora_gather_backward: hidden must be floating point, got torch\.int64"):
        lora_gather_backward(y, X, A, B, IDS, W, hidden.long())


@pytest.mark.parametrize("k", [2.0, "3", None, True])
@pytest.mark.parametrize("impl", ["auto", "reference", "triton"])
def test_how_many_to_find_is_a_whole_number(k: Any, impl: str) -> None:
    queries = torch.ones(2, 4)
    with pytest.raises(ValueError, match=f"topk_flat: k must be a whole number, got {k!r}"):
        topk_flat(queries, torch.ones(9, 4), k, impl=impl)
    with pytest.raises(ValueError, match=f"topk_product_key: k must be a whole number, got {k!r}"):
        topk_product_key(queries, torch.ones(3, 2), torch.ones(3, 2), k, impl=impl)


def test_numbers_of_other_libraries_count() -> None:
    numpy = pytest.importorskip("numpy")
    assert topk_flat(torch.ones(2, 4), torch.ones(9, 4), numpy.int64(2))[1].tolist() == [[0, 1]] * 2


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "width": (lambda: uniform(0, 0, torch.tensor([1]), 2.5), "uniform: width must be a whole number, got 2.5"),
    "one beta": (lambda: stepped(adam_, betas=(0.9,)), r"adam_: betas must be two numbers, got \(0.9,\)"),
    "three betas": (lambda: stepped(adam_, betas=(0.9, 0.9, 0.9)), "adam_: betas must be two numbers"),
    "adam_ devices": (lambda: stepped(adam_, rows=torch.ones(5, 3, device="meta")), "adam_: .*cpu, meta"),
    "average on another device": (
        lambda: stepped(adafactor_, row_average=torch.zeros(5, device="meta")),
        "adafactor_: .*cpu, meta",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_arguments_of_the_wrong_kind(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_no_row_can_be_picked_of_an_empty_table() -> None:
    with pytest.raises(IndexError, match=r"rows_gather: ids must lie in \[0, 0\), got 0 to 0"):
        rows_gather(torch.ones(0, 3), torch.tensor([0]))
    assert rows_gather(torch.ones(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
