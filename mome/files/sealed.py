"""JSON files with a checksum: a body and its sha256, so that any changed byte is noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mome.files.hashing import text_sha256


class CheckpointError(RuntimeError):
    """A checkpoint, snapshot or file of an adapter that cannot be used; the message names the file."""


def write_sealed(path: Path, body: dict[str, Any]) -> None:
    """Write `body`, JSON, to the new file `path`, on disk when this returns; raises OSError where that fails."""
    with path.open("xb") as file:
        file.write(render(body))
        file.flush()
        os.fsync(file.fileno())


def read_sealed(path: Path) -> dict[str, Any]:
    """The body that `write_sealed` wrote; raises CheckpointError naming a file that is not that to the last byte."""
    try:
        content = path.read_bytes()
        body = json.loads(content)["body"]
        whole = render(body) == content
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable manifest ({error!r})") from error
    if not whole or not isinstance(body, dict):
        raise CheckpointError(f"{path}: damaged, its content and its own sha256 disagree")
    return body


def render(body: dict[str, Any]) -> bytes:
    """The one way to write a manifest: a reader renders what it parsed and compares every byte."""
    digest = text_sha256(json.dumps(body))
    return json.dumps({"body": body, "sha256": digest}, indent=1).encode() + b"\n"
