"""What the tests of the sections' boxes share: a small memory that knows eight facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mome.facts.fact import Fact
    from mome.lm.loading import Backbone
    from mome.memory.memory import Memory


@pytest.fixture(scope="module")
def shared_memory(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    """The eight facts memorized, once for all tests of a module."""
    from tiny_editing import make_memory

    return make_memory(random_backbone, backbone_folder, facts)


@pytest.fixture
def memory(shared_memory: Memory) -> Memory:
    """The same, back in the state before any edit."""
    shared_memory.rollback(0)
    return shared_memory
