"""An open replication of the Mixture of Memory Experts (arXiv 2406.17642)."""

from importlib import import_module
from typing import Any

HOMES = {
    "MomeConfig": "mome.adapter.model",
    "edit_memory": "mome.memory.loading",
    "load_memory": "mome.memory.loading",
    "memorize": "mome.memory.memorize",
}

__all__ = ["MomeConfig", "edit_memory", "load_memory", "memorize"]


def __getattr__(name: str) -> Any:
    """`from mome import MomeConfig` also makes the method known to PEFT; plain `import mome` stays quick."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'mome' has no attribute {name!r}")
