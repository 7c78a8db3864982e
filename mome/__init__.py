"""An open replication of the Mixture of Memory Experts (arXiv 2406.17642).

These names are the public ones. The adapter: `MomeConfig` for PEFT's `get_peft_model`, and `mome_model`. Training it
oneself: `MemoryOptimizer` with `RowAdam` or `RowAdafactor`. Facts memorized, asked, saved and edited: the others.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mome.adapter.config import MomeConfig
    from mome.adapter.model import mome_model
    from mome.facts.fact import Fact
    from mome.facts.readers import read_facts
    from mome.lm.loading import load_backbone
    from mome.memory.loading import edit_memory, load_memory
    from mome.memory.memorize import memorize
    from mome.memory.memory import Memory
    from mome.train.optim import MemoryOptimizer, RowAdafactor, RowAdam
    from mome.train.settings import MemorySettings, RouterSettings

__all__ = [
    "Fact",
    "Memory",
    "MemoryOptimizer",
    "MemorySettings",
    "MomeConfig",
    "RouterSettings",
    "RowAdafactor",
    "RowAdam",
    "edit_memory",
    "load_backbone",
    "load_memory",
    "memorize",
    "mome_model",
    "read_facts",
]

# Each name is imported when it is first used: plain `import mome` and `mome --help` stay quick.
HOMES = {
    "Fact": "mome.facts.fact",
    "Memory": "mome.memory.memory",
    "MemoryOptimizer": "mome.train.optim",
    "MemorySettings": "mome.train.settings",
    "MomeConfig": "mome.adapter.model",  # which makes the method known to PEFT
    "RouterSettings": "mome.train.settings",
    "RowAdafactor": "mome.train.optim",
    "RowAdam": "mome.train.optim",
    "edit_memory": "mome.memory.loading",
    "load_backbone": "mome.lm.loading",
    "load_memory": "mome.memory.loading",
    "memorize": "mome.memory.memorize",
    "mome_model": "mome.adapter.model",
    "read_facts": "mome.facts.readers",
}

__version__ = version("mome")


def __getattr__(name: str) -> Any:
    """The public name `name`, from its home."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'mome' has no attribute {name!r}")
