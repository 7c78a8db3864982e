"""One step of Adam or Adafactor on some rows of a table, in place; the other rows and their state are not touched.

For a table that lies on the device: gradients come one for each selection, those of the same row are added up in f32,
and each row is updated once. `mome.train.optim` takes the same steps on rows that it gathers from a bank on the CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mome.kernels.counter.reference import signed
from mome.kernels.dispatch import check_devices, implementation
from mome.kernels.row_update.reference import Adafactor, Adam

ROW_DTYPES = (torch.float32, torch.bfloat16)
GRADIENT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def adam_(
    rows: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    ids: Tensor,
    gradients: Tensor,
    order: Tensor | None = None,
    *,
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    seed: int = 0,
    stream: int = 0,
    impl: str = "auto",
) -> None:
    """Take a step of Adam on the rows `ids`: torch.optim.Adam's formula, each row at its own number of updates.

    One launch on a GPU, which waits for nothing. Gradients are not checked for NaN, and neither are, on a GPU, the
    numbers in ids, order and steps: what is said of them here must hold.

    Args:
        rows: [N, width] f32 or bf16, a row's numbers side by side; bf16 is rounded stochastically, as by `Bank.write`.
        exp_avg: [N, width] f32, the average of the gradients, laid out like rows; zero at first.
        exp_avg_sq: [N, width] f32, that of their squares.
        steps: [N] int32, how often each row was updated, with this update counted in (so at least 1 at `ids`).
        ids: [m] int64 in [0, N), ascending, with repeats.
        gradients: [m, width] f32, bf16 or f16; with `order` it may have any number of rows.
        order: [m] int64; the gradient of ids[i] is gradients[order[i]], and gradients[i] without it.
        rate: learning rate.
        betas: the averages' shares of the past.
        epsilon: added to the root of the second average.
        seed: any integer, the table's; decides with `stream`, row, step and column how bf16 is rounded.
        stream: tells tables of one seed apart.
        impl: which implementation steps, "auto", "reference" or "triton".

    Raises:
        ValueError: an argument of another shape, dtype or range, named.
        RuntimeError: `impl` is not possible.
    """
    if len(betas) != 2:
        raise ValueError(f"adam_: betas must be two numbers, got {betas!r}")
    for index, beta in enumerate(betas):
        _check_number("adam_", f"betas[{index}]", beta, 0 <= beta < 1, "at least 0 and below 1")
    _check_settings("adam_", rate, epsilon)
    _check_rows("adam_", rows, steps, ids, gradients, order)
    for name, table in (("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        _check_tensor("adam_", name, table, rows.shape, (torch.float32,))
        _check_within_rows("adam_", name, table)
    check_devices("adam_", rows, exp_avg, exp_avg_sq, steps, ids, gradients, *_some(order))
    if rows.numel() and len(ids):
        settings = (rate, *betas, epsilon, signed(seed), signed(stream))
        _adam(rows, exp_avg, exp_avg_sq, steps, ids, gradients, order, *settings, impl)


def adafactor_(
    rows: Tensor,
    row_average: Tensor,
    column_average: Tensor,
    steps: Tensor,
    updates: Tensor,
    ids: Tensor,
    gradients: Tensor,
    order: Tensor | None = None,
    *,
    rate: float,
    epsilon: float = 1e-30,
    clip_threshold: float = 1.0,
    decay_rate: float = -0.8,
    seed: int = 0,
    stream: int = 0,
    impl: str = "auto",
) -> None:
    """Take a step of Adafactor on the rows `ids`: what `mome.train.optim.RowAdafactor` does to one module.

    That is transformers' Adafactor with scale_parameter=False, relative_step=False, warmup_init=False, beta1=None and
    weight_decay=0 on the matrix of the rows, where a row's statistic decays by its own number of updates and means
    are over the distinct rows of the step. Four launches on a GPU, which wait for nothing; checks as in `adam_`.

    Args:
        rows: as in `adam_`, and so are steps, ids, gradients, order, rate, seed, stream and impl.
        row_average: [N] f32, the mean squared gradient of each row; zero at first. It may be a column of a table.
        column_average: [width] f32, contiguous, that of each column; zero at first.
        updates: [] int64, how many updates the table had, this one counted in. A tensor, so that a captured CUDA graph
            can count.
        epsilon: added to the mean squares.
        clip_threshold: the root mean square above which an update is scaled down to it.
        decay_rate: below 0; after t updates an average takes up a share t**decay_rate of what is new.

    Raises:
        ValueError: an argument of another shape, dtype or range, named.
        RuntimeError: `impl` is not possible.
    """
    _check_settings("adafactor_", rate, epsilon)
    _check_number("adafactor_", "clip_threshold", clip_threshold, clip_threshold > 0, "above 0")
    _check_number("adafactor_", "decay_rate", decay_rate, decay_rate < 0, "below 0")
    _check_rows("adafactor_", rows, steps, ids, gradients, order)
    _check_tensor("adafactor_", "row_average", row_average, rows.shape[:1], (torch.float32,))
    _check_tensor("adafactor_", "column_average", column_average, rows.shape[1:], (torch.float32,))
    _check_tensor("adafactor_", "updates", updates, (), (torch.int64,))
    tensors = (rows, row_average, column_average, steps, updates, ids, gradients, order)
    check_devices("adafactor_", *tensors[:-1], *_some(order))
    if not column_average.is_contiguous():
        raise ValueError("adafactor_: column_average must be contiguous")
    if updates.device.type == "cpu" and int(updates) < 1:
        raise ValueError(f"adafactor_: updates must count this update, got {int(updates)}")
    if rows.numel() and len(ids):
        settings = (rate, epsilon, clip_threshold, decay_rate, signed(seed), signed(stream))
        _adafactor(*tensors, *settings, impl)


@torch.library.custom_op("mome::adam_", mutates_args=("rows", "exp_avg", "exp_avg_sq"))
def _adam(
    rows: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    ids: Tensor,
    gradients: Tensor,
    order: Tensor | None,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    seed: int,
    stream: int,
    impl: str,
) -> None:
    tensors = (rows, exp_avg, exp_avg_sq, steps, ids, gradients)
    module = implementation("row_update", impl, *tensors, *_some(order))
    module.adam_(*tensors, order, Adam(rate, (beta1, beta2), epsilon), seed, stream)


@torch.library.custom_op("mome::adafactor_", mutates_args=("rows", "row_average", "column_average"))
def _adafactor(
    rows: Tensor,
    row_average: Tensor,
    column_average: Tensor,
    steps: Tensor,
    updates: Tensor,
    ids: Tensor,
    gradients: Tensor,
    order: Tensor | None,
    rate: float,
    epsilon: float,
    clip_threshold: float,
    decay_rate: float,
    seed: int,
    stream: int,
    impl: str,
) -> None:
    tensors = (rows, row_average, column_average, steps, updates, ids, gradients)
    module = implementation("row_update", impl, *tensors, *_some(order))
    settings = Adafactor(rate, epsilon, clip_threshold, decay_rate)
    module.adafactor_(*tensors, order, settings, seed, stream)


def _some(tensor: Tensor | None) -> tuple[Tensor, ...]:
    return () if tensor is None else (tensor,)


def _check_rows(op: str, rows: Tensor, steps: Tensor, ids: Tensor, gradients: Tensor, order: Tensor | None) -> None:
    if rows.dim() != 2:
        raise ValueError(f"{op}: rows must be [N, width], got {list(rows.shape)}")
    _check_tensor(op, "rows", rows, rows.shape, ROW_DTYPES)
    _check_within_rows(op, "rows", rows)
    _check_tensor(op, "steps", steps, rows.shape[:1], (torch.int32,))
    _check_tensor(op, "ids", ids, (ids.numel(),), (torch.int64,))
    count = len(gradients) if order is not None and gradients.dim() else len(ids)
    _check_tensor(op, "gradients", gradients, (count, rows.shape[1]), GRADIENT_DTYPES)
    if order is not None:
        _check_tensor(op, "order", order, ids.shape, (torch.int64,))
    if ids.device.type == "cpu" and len(ids):
        _check_numbers(op, steps, ids, order, len(gradients))


def _check_numbers(op: str, steps: Tensor, ids: Tensor, order: Tensor | None, gradients: int) -> None:
    """What the numbers in them say, which a GPU would have to be waited for."""
    for name, values, bound in (
        ("ids", ids, len(steps)),
        *([("order", order, gradients)] if order is not None else []),
    ):
        low, high = (int(end) for end in values.aminmax())
        if low < 0 or high >= bound:
            raise ValueError(f"{op}: {name} must lie in [0, {bound}), got {low} to {high}")
    falls = (ids.diff() < 0).nonzero()
    if len(falls):
        before, after = ids[int(falls[0]) :][:2].tolist()
        raise ValueError(f"{op}: ids must ascend, got {before} before {after}")
    counted = steps[ids]
    if int(counted.min()) < 1:
        number = int(ids[counted.argmin()])
        raise ValueError(f"{op}: steps must count this update, got {int(counted.min())} for row {number}")


def _check_tensor(op: str, name: str, tensor: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    if tensor.shape != shape or tensor.dtype not in dtypes:
        allowed = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{op}: {name} must be {list(shape)} {allowed}, got {list(tensor.shape)} {tensor.dtype}")


def _check_within_rows(op: str, name: str, table: Tensor) -> None:
    if table.shape[1] > 1 and table.stride(1) != 1:
        raise ValueError(f"{op}: {name} must hold a row's numbers side by side, got strides {table.stride()}")


def _check_settings(op: str, rate: float, epsilon: float) -> None:
    _check_number(op, "rate", rate, rate >= 0, "finite and at least 0")
    _check_number(op, "epsilon", epsilon, epsilon > 0, "finite and above 0")


def _check_number(op: str, name: str, value: float, allowed: bool, rule: str) -> None:
    if not (allowed and math.isfinite(value)):
        raise ValueError(f"{op}: {name} must be {rule}, got {value!r}")
