"""Checks of a configuration read from a file, which may be untrusted: it opens no folder and takes no huge memory."""

from __future__ import annotations

import warnings
from typing import Any

from mome.adapter.config import MomeConfig

# far above what the paper has (1,000,000 experts of rank 1, 32 for a question), far below what fills a machine
MOST = {
    "num_experts": 2**27,
    "top_k": 2**16,
    "rank": 2**12,
    "key_size": 2**14,
    "router_heads": 2**10,
    "router_layer": 2**12,
    "seed": 2**63 - 1,
}
MOST_KEYS = 2**28  # numbers in all the router's keys: 1 GiB
MOST_HEADS = 2**17  # key_size times router_heads: each is as wide as the backbone's states


class ReceivedConfig(MomeConfig):
    """What PEFT makes of an `adapter_config.json`: a MomeConfig, checked; never an instance of this class.

    Raises:
        ValueError: a field has a value that cannot work, or that would take the memory of the machine.
    """

    def __new__(cls, **values: Any) -> MomeConfig:  # type: ignore[misc]
        return MomeConfig(**received(values))


def received(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration read from a file, without its `storage`; raises ValueError for a huge number."""
    if values.get("storage") is not None:
        text = f"adapter_config.json: its storage {values['storage']!r} is not followed; rows are kept in memory"
        warnings.warn(text, stacklevel=3)
    for name, most in MOST.items():
        value = values.get(name)
        if isinstance(value, int) and value > most:
            raise ValueError(f"adapter_config.json: {name} must be at most {most:,} in a received adapter")
    experts, size, heads = (_count(values, name) for name in ("num_experts", "key_size", "router_heads"))
    if values.get("index") == "flat" and experts * size > MOST_KEYS:
        raise ValueError(f"adapter_config.json: num_experts times key_size must be at most {MOST_KEYS:,} with flat")
    if size * heads > MOST_HEADS:
        raise ValueError(f"adapter_config.json: key_size times router_heads must be at most {MOST_HEADS:,}")
    return {**values, "storage": None, "layers_to_transform": _layers(values)}


def _layers(values: dict[str, Any]) -> Any:
    """The adapted layers without those that were never adapted: any beside a pattern, and those below the router's."""
    found, lowest = values.get("layers_to_transform"), values.get("router_layer")
    if not isinstance(found, list) or not isinstance(lowest, int):
        return found
    kept = [layer for layer in found if not isinstance(layer, int) or layer >= lowest]
    return None if isinstance(values.get("target_modules"), str) else kept or None


def _count(values: dict[str, Any], name: str) -> int:
    found = values.get(name, 1)
    return found if isinstance(found, int) else 1  # MomeConfig will refuse it
