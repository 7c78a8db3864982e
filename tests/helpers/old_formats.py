"""Adapters as earlier versions wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from mome.files.hashing import file_sha256
from mome.files.sealed import read_sealed, render


def as_before_manifests(folder: Path) -> None:
    """An adapter as earlier versions saved it: no manifest, and a bank that asks for none."""
    (folder / "manifest.json").unlink()
    path = folder / "bank" / "manifest.json"
    body = read_sealed(path)
    body["state"].pop("vouched")
    path.write_bytes(render(body))
    held = folder / "held.json"
    if held.exists():
        values = json.loads(held.read_text())
        held.write_text(json.dumps({**values, "bank": file_sha256(path)}))
