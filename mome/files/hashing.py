"""SHA-256 of files and of texts, as hexadecimal digits."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The 64 digits of a file's content, which is read in pieces; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str, digits: int = 64) -> str:
    """The first `digits` digits of a text in UTF-8; 16 of them, 64 bits, are enough to name what we keep."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
