"""What the tests of the memory share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded."""
    for module in ("memorize", "loading"):
        monkeypatch.setattr(f"mome.memory.{module}.load_backbone", None)
