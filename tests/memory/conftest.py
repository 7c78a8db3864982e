"""What the tests of the memory share: eight facts memorized, and edits that are taken back before each test.

The imports of the package's models wait for the first test that asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mome.facts.fact import Fact
    from mome.lm.loading import Backbone
    from mome.memory.memory import Memory


@pytest.fixture(scope="module")
def shared(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    """The eight facts memorized, once for all tests of a module."""
    from tiny_editing import make_memory

    return make_memory(random_backbone, backbone_folder, facts)


@pytest.fixture
def memory(shared: Memory) -> Memory:
    """The same, back in the state before any edit."""
    shared.rollback(0)
    return shared


@pytest.fixture
def start(memory: Memory) -> dict[str, Any]:
    """The state before any edit."""
    from tiny_editing import state

    return state(memory)


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded."""
    for module in ("memorize", "loading"):
        monkeypatch.setattr(f"mome.memory.{module}.load_backbone", None)
