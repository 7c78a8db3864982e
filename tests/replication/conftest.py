"""What the tests of the replication share: project folders that a test may write to."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def project(made_up_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own with the made-up facts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "facts").symlink_to(made_up_root / "data" / "facts")
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_project(small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own with some of the shipped facts."""
    (tmp_path / "data").symlink_to(small_root / "data")
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    return tmp_path
