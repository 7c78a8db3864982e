"""The tokens of prompts: they are checked, and those by which experts are chosen are marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def input_tokens(given: Mapping[str, Any]) -> Tensor:
    """A tensor [Q, T] from the arguments `given` to a causal LM. Only its shape and device are of use.

    Raises:
        ValueError: there are no tokens, or not as a matrix.
    """
    name = "inputs_embeds" if given.get("input_ids") is None else "input_ids"
    found = given.get(name)
    if found is None:
        raise ValueError("input_ids: MoME chooses experts by the tokens of a question, and none are given")
    wanted = 2 if name == "input_ids" else 3
    if not isinstance(found, Tensor) or found.dim() != wanted or not found.shape[0] or not found.shape[1]:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        shape = "[questions, tokens]" if wanted == 2 else "[questions, tokens, width]"
        raise ValueError(f"{name}: must be {shape} with at least one of each, got {got}")
    return found if wanted == 2 else found[..., 0]


def check_tokens(given: Mapping[str, Any], vocabulary: int) -> None:
    """Refuse token ids on the CPU that the backbone does not have; for those elsewhere it would wait for the device.

    Raises:
        ValueError: naming row, place and value.
    """
    ids = input_tokens(given) if given.get("inputs_embeds") is None else None
    if ids is None or not ids.is_cpu:
        return
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"input_ids: must be int64 or int32, got {ids.dtype}")
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= vocabulary:
        row, place = ((ids < 0) | (ids >= vocabulary)).nonzero()[0].tolist()
        raise ValueError(
            f"input_ids: token {int(ids[row, place])} of row {row} (place {place}) must lie in [0, {vocabulary}), "
            "the backbone's vocabulary"
        )


def prompt_tokens(given: Mapping[str, Any]) -> Tensor:
    """A mask [Q, T] bool of the tokens by which experts are chosen, from the arguments `given` to a causal LM.

    These are the tokens that `prompt_mask` marks; without it those before the first label; without labels all. Padding
    (0 in `attention_mask`) is never among them.

    Raises:
        ValueError: a mask of another shape than the tokens, or a row without a prompt token.
    """
    tokens = input_tokens(given)
    attended, labels, prompt = given.get("attention_mask"), given.get("labels"), given.get("prompt_mask")
    for name, mask in (("attention_mask", attended), ("prompt_mask", prompt), ("labels", labels)):
        if mask is not None and (not isinstance(mask, Tensor) or mask.shape != tokens.shape):
            found = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"{name}: MoME needs one value for each token, {list(tokens.shape)}, got {found}")
    if prompt is None:
        prompt = torch.ones_like(tokens, dtype=torch.bool) if labels is None else (labels != -100).cumsum(dim=1) == 0
    prompt = prompt.bool() if attended is None else prompt.bool() & attended.bool()
    empty = (~prompt.any(dim=1)).nonzero()
    if len(empty):
        raise ValueError(f"row {int(empty[0])} has no prompt token to choose experts by: mark its labels with -100")
    return prompt
