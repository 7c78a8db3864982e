"""LoRA whose rank-R slices each question picks for itself from a table of experts."""

from __future__ import annotations

import torch

from mome.kernels.lora_gather import reference


def lora_gather(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """What a question's experts add to a linear layer: sum over k of w_k (x a_k^T) b_k, with gradients for x, a, b, w.

    Products are computed in autocast's dtype where it is on, else in x's. Gradients of an expert picked more than once
    are added in f32 in a fixed order, so that two runs give the same bits; they come in the dtype of a and b.

    Args:
        x: [Q, T, d_in], the layer's input.
        a: [n, R, d_in], the experts' input sides.
        b: [n, R, d_out], their output sides.
        ids: [Q, K] int64 in [0, n), each question's experts.
        w: [Q, K], their weights.

    Returns:
        [Q, T, d_out] in the dtype of the products.

    Raises:
        ValueError: shapes that do not fit each other, ids that are not int64 or name no row of a.
    """
    _check(x, a, b, ids, w)
    autocast = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    result: torch.Tensor = reference.LoraGather.apply(x, a, b, ids, w, dtype)
    return result


def _check(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, w: torch.Tensor) -> None:
    shapes = {name: tuple(value.shape) for name, value in (("x", x), ("a", a), ("b", b), ("ids", ids), ("w", w))}
    if not (x.dim() == a.dim() == b.dim() == 3 and ids.dim() == w.dim() == 2):
        raise ValueError(
            f"lora_gather: need x [Q, T, d_in], a [n, R, d_in], b [n, R, d_out], ids and w [Q, K]; got {shapes}"
        )
    if a.shape[2] != x.shape[2] or a.shape[:2] != b.shape[:2]:
        raise ValueError(f"lora_gather: a must be [n, R, d_in of x] and b [n, R, d_out]; got {shapes}")
    if ids.shape != w.shape or len(ids) != len(x):
        raise ValueError(f"lora_gather: ids and w must both be [Q of x, K]; got {shapes}")
    if ids.dtype != torch.int64:
        raise ValueError(f"lora_gather: ids must be int64, got {ids.dtype}")
    if ids.numel():
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= len(a):
            raise ValueError(f"lora_gather: ids must lie in [0, {len(a)}), got {low} to {high}")
