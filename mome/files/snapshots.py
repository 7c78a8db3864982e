"""Snapshots of a run in one safetensors file: a reader sees the old one or the new one, even after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mome.files.atomic import replacing
from mome.files.sealed import CheckpointError


def save_snapshot(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write `tensors` and the JSON-serializable `state` to `path`: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full or not writable; the earlier snapshot is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(whole, temporary, _header(state))
    except SafetensorError as error:  # its way to say that the disk is full
        raise OSError(f"{path}: cannot be written ({error})") from error


def load_snapshot(path: Path, config: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The tensors and state of `path`, or None where there is no snapshot yet.

    Raises:
        CheckpointError: the file is damaged, or was written under settings other than `config`.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            written = dict(state["config"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable snapshot ({error}); delete it to start over") from error
    if written != config:
        changed = sorted(name for name in {**written, **config} if written.get(name) != config.get(name))
        raise CheckpointError(f"{path}: written under other settings ({', '.join(changed)}); delete it to start over")
    return tensors, state


def optimizer_snapshot(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors and JSON numbers, without pickle."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, torch.Tensor) else numbers)[f"optimizer/{index}/{name}"] = value
    return tensors, numbers


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]
) -> None:
    """Put back what `optimizer_snapshot` took; other names in `tensors` are left alone."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _header(state: dict[str, Any]) -> dict[str, str]:
    return {"state": json.dumps(state)}
