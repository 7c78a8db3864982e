"""How Adam and Adafactor on rows may be called: as torch expects of operations, and with arguments that fit."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mome.kernels.row_update import adafactor_, adam_

KINDS = ("adam", "adafactor")
RATE = 0.03


def arguments(kind: str, device: str, **changes: Any) -> dict[str, Any]:
    """Good arguments for one step on two rows of five, with `changes`."""
    good = {"rows": torch.ones(5, 6, device=device)}
    if kind == "adam":
        good |= {name: torch.zeros(5, 6, device=device) for name in ("exp_avg", "exp_avg_sq")}
    else:
        good |= {"row_average": torch.zeros(5, device=device), "column_average": torch.zeros(6, device=device)}
    good["steps"] = torch.ones(5, dtype=torch.int32, device=device)
    if kind == "adafactor":
        good["updates"] = torch.tensor(1, device=device)
    ids, gradients = torch.tensor([1, 1, 4], device=device), torch.ones(3, 6, device=device)
    return {**good, "ids": ids, "gradients": gradients, "order": None, "rate": RATE, **changes}


@pytest.mark.parametrize("impl", ("reference", "triton"))
@pytest.mark.parametrize("kind", KINDS)
def test_the_operations_are_what_torch_expects_of_them(kind: str, impl: str, device: str) -> None:
    order = torch.tensor([2, 0, 1], device=device)
    tensors = list(arguments(kind, device, order=order).values())[:-1]
    settings = (RATE, 0.9, 0.999, 1e-8, 3, 4) if kind == "adam" else (RATE, 1e-30, 1.0, -0.8, 3, 4)
    torch.library.opcheck(getattr(torch.ops.mome, f"{kind}_").default, (*tensors, *settings, impl))


BOTH: list[tuple[dict[str, Any], str]] = [
    ({"rows": torch.zeros(5)}, "rows must be [N, width], got [5]"),
    ({"rows": torch.zeros(5, 6).double()}, "rows must be [5, 6] float32 or bfloat16, got [5, 6] torch.float64"),
    ({"rows": torch.zeros(6, 5).t()}, "rows must hold a row's numbers side by side, got strides (1, 5)"),
    ({"steps": torch.ones(5)}, "steps must be [5] int32, got [5] torch.float32"),
    ({"steps": torch.zeros(5, dtype=torch.int32)}, "steps must count this update, got 0 for row 1"),
    ({"ids": torch.ones(3)}, "ids must be [3] int64, got [3] torch.float32"),
    ({"ids": torch.tensor([1, 4, 3])}, "ids must ascend, got 4 before 3"),
    ({"ids": torch.tensor([1, 2, 5])}, "ids must lie in [0, 5), got 1 to 5"),
    ({"gradients": torch.ones(2, 6)}, "gradients must be [3, 6] float32 or bfloat16 or float16, got [2, 6]"),
    ({"gradients": torch.ones(3, 6).double()}, "gradients must be [3, 6] float32 or bfloat16 or float16, got [3, 6]"),
    ({"order": torch.tensor([0, 1])}, "order must be [3] int64, got [2] torch.int64"),
    ({"order": torch.tensor([0, 1, 3])}, "order must lie in [0, 3), got 0 to 3"),
    ({"rate": -0.1}, "rate must be finite and at least 0, got -0.1"),
    ({"rate": math.nan}, "rate must be finite and at least 0, got nan"),
    ({"epsilon": 0}, "epsilon must be finite and above 0, got 0"),
    ({"impl": "cuda"}, "impl must be one of auto, reference, triton, got 'cuda'"),
]
OWN: dict[str, list[tuple[dict[str, Any], str]]] = {
    "adam": [
        ({"exp_avg": torch.zeros(5, 5)}, "exp_avg must be [5, 6] float32, got [5, 5] torch.float32"),
        ({"exp_avg_sq": torch.zeros(5, 6).half()}, "exp_avg_sq must be [5, 6] float32, got [5, 6] torch.float16"),
        ({"betas": (0.9, 1)}, "betas[1] must be at least 0 and below 1, got 1"),
    ],
    "adafactor": [
        ({"row_average": torch.zeros(5, 1)}, "row_average must be [5] float32, got [5, 1] torch.float32"),
        ({"column_average": torch.zeros(5)}, "column_average must be [6] float32, got [5] torch.float32"),
        ({"column_average": torch.zeros(6, 2)[:, 0]}, "column_average must be contiguous"),
        ({"updates": torch.tensor(0)}, "updates must count this update, got 0"),
        ({"updates": torch.tensor(1.0)}, "updates must be [] int64, got [] torch.float32"),
        ({"clip_threshold": 0.0}, "clip_threshold must be above 0, got 0.0"),
        ({"decay_rate": 0.8}, "decay_rate must be below 0, got 0.8"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "changes", "message"), [(kind, *case) for kind in KINDS for case in (*BOTH, *OWN[kind])]
)
def test_misuse_is_named_and_changes_nothing(kind: str, changes: dict[str, Any], message: str) -> None:
    operation: Callable[..., None] = {"adam": adam_, "adafactor": adafactor_}[kind]
    given = arguments(kind, "cpu", **changes)
    before = {name: value.clone() for name, value in given.items() if isinstance(value, torch.Tensor)}
    with pytest.raises(ValueError, match=re.escape(message)):
        operation(**given)
    assert all(torch.equal(given[name], value) for name, value in before.items())
