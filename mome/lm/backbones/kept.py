"""Where converted backbones are kept, each with a record of the GGUF file that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from mome.files.environment import work_folder
from mome.files.folders import discard, private_name
from mome.files.locking import lock_path, locked_file
from mome.files.records import Record, Text
from mome.lm.backbones.named import NAMED

RECORD = "converted.json"
WAIT_SECONDS = 1_800.0  # for another process that makes the same folder


class Converted(Record):
    """What a converted folder was made from: the file, its sha256 and format, and by which versions."""

    source: Text
    sha256: Text
    weights: Text
    made_with: Text


def place_of(sha256: str) -> Path:
    """The folder for the GGUF file of this sha256, which need not exist: one for each content, whatever its name."""
    names = [each.name for each in NAMED.values() if each.sha256 == sha256]
    return work_folder() / "backbones" / (names[0] if names else f"gguf-{sha256[:16]}")


def record_of(sha256: str) -> Converted | None:
    """The record of the converted folder of this file; None where there is none, or that of another file."""
    path = place_of(sha256) / RECORD
    try:
        found = Converted.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.sha256 == sha256 else None


@contextmanager
def making(sha256: str) -> Iterator[Path | None]:
    """A scratch folder to make this file's folder in, while no other process does; None where it is there already.

    Raises:
        BusyError: another process has been making it for half an hour.
        OSError: the work folder cannot be written.
    """
    folder = place_of(sha256)
    busy = (
        f"{folder}: another process has been making this backbone for {WAIT_SECONDS / 60:.0f} minutes; see what it does"
    )
    scratch = private_name(folder, "new")
    with locked_file(lock_path(folder), busy, WAIT_SECONDS):
        if record_of(sha256) is not None:
            yield None
            return
        try:
            scratch.mkdir()
            yield scratch
        finally:
            discard(scratch)
