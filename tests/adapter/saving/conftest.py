"""A memory of eight facts, its saved adapter, and copies of that to damage; a saved model without facts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_editing import make_memory
from tiny_models import remembering

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.memory.memory import Memory


@pytest.fixture(scope="module")
def memory(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    """One for all tests of a module, which leave it as it is."""
    return make_memory(random_backbone, backbone_folder, facts)


@pytest.fixture(scope="module")
def saved(memory: Memory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its adapter, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    memory.save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of a saved adapter."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder and the model that was saved to it; neither is changed."""
    folder, model = tmp_path_factory.mktemp("saved") / "adapter", remembering()
    model.save_pretrained(folder)
    return folder, model
