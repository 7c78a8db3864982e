"""Digests of a backbone's weights, by which an adapter recognizes the backbone that it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.utils.save_and_load import get_base_model_state_dict

# a backbone is often loaded in bf16 on an accelerator, so both sides can be compared in it
COMMON = torch.bfloat16


def weights_digests(model: Any) -> dict[str, str]:
    """Sha256 of a causal LM's weights, without those of an adapter on it, by the name of the dtype they are taken in.

    One digest is of the weights as they were loaded ("float32"; several dtypes are joined by "+"), one of them rounded
    to bfloat16, so that a backbone is known again where it is loaded in less precision. Empty where weights are not in
    memory (meta tensors).
    """
    weights = get_base_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()
    if any(values.is_meta for values in weights.values()):
        return {}
    dtypes = {values.dtype for values in weights.values()}
    label = "+".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    found = {label: _digest(weights)}
    if dtypes <= {torch.float32, COMMON}:
        found.setdefault("bfloat16", _digest({name: values.to(COMMON) for name, values in weights.items()}))
    return found


def same_weights(one: Mapping[str, str], other: Mapping[str, str]) -> bool | None:
    """Whether two results of `weights_digests` are of the same weights; None where they have no dtype in common."""
    shared = sorted(one.keys() & other.keys(), key=lambda dtype: dtype == "bfloat16")
    return one[shared[0]] == other[shared[0]] if shared else None


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, values in sorted(weights.items()):
        found.update(f"{name} {list(values.shape)} ".encode())
        found.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
