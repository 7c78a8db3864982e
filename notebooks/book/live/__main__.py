"""Puts the files of the live page together: `python -m live FOLDER`, with notebooks/book/ on the path.

Without npm or what it fetches the folder holds `missing.txt` alone, a sentence that says why; the book has it in the
place of the page.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from live.memory import BACKBONE, HERE
from live.npm import RUNTIME, TOKENIZERS, NotTaken, take
from mome.files.environment import repository_root
from mome.files.hashing import file_sha256, text_sha256

PAGE = ("ask.js", "ask.css", "memory.js", "facts.jsonl")
ROOMS = ("adapter", "facts", "files", "lm", "memory", "train")
MISSING = "missing.txt"


def put_together(folder: Path, kept: Path) -> Path:
    """Write the page's files into `folder`, which is emptied first; what takes long is `kept` for the next time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        runtime, wasm = take(RUNTIME, kept)
        tokenizers, licence = take(TOKENIZERS, kept)
    except NotTaken as why:
        print(f"the live page is left out: {why}", file=sys.stderr)
        (folder / MISSING).write_text(f"{why}.\n", "utf-8")
        return folder
    for path in (*made(kept), *(HERE / name for name in PAGE), runtime, tokenizers):
        shutil.copy(path, folder / path.name)
    shutil.copy(licence, folder / "tokenizers.LICENSE")
    shutil.copy(repository_root() / "data" / "backbones" / BACKBONE / "tokenizer.json", folder)
    (folder / f"{wasm.name}.gz").write_bytes(packed(wasm.read_bytes()))
    return folder


def made(kept: Path) -> list[Path]:
    """The trained memory and the graph as files: kept ones of the same code, data and packages, else new ones."""
    folder = kept / f"memory-{key()}"
    if not folder.is_dir():
        # imported here, as torch's exporter takes seconds, and nothing else needs onnx
        from live.graph import exported
        from live.memory import arrays, described, trained
        from live.verify import check

        memory = trained()
        graph = exported(memory)
        answers = check(graph, memory)
        kept.mkdir(parents=True, exist_ok=True)
        new = Path(mkdtemp(dir=kept, prefix=".new-"))
        (new / "step.onnx.gz").write_bytes(packed(graph))
        (new / "memory.bin.gz").write_bytes(packed(arrays(memory)))
        (new / "memory.json").write_text(json.dumps(described(memory)), "utf-8")
        (new / "answers.json").write_text(json.dumps(answers, indent=1), "utf-8")
        for earlier in kept.glob("memory-*"):
            shutil.rmtree(earlier)
        new.rename(folder)
    return sorted(folder.iterdir())


def packed(content: bytes) -> bytes:
    """Compressed, without a time in it."""
    return gzip.compress(content, 6, mtime=0)


def key() -> str:
    """A digest of all that decides what is trained and exported."""
    return text_sha256(json.dumps([file_sha256(path) for path in _sources()]), 16)


def _sources() -> Iterator[Path]:
    root = repository_root()
    yield from sorted(path for path in HERE.iterdir() if path.suffix in (".py", ".jsonl", ".txt"))
    for room in ROOMS:
        yield from sorted((root / "mome" / room).rglob("*.py"))
    yield from sorted((root / "kernels" / "mome_kernels").rglob("*.py"))
    yield from sorted((root / "data" / "backbones" / BACKBONE).iterdir())
    yield from sorted((root / "data" / "facts").glob("*.jsonl"))
    yield from (root / "requirements.lock", root / "notebooks" / "book" / "requirements.lock")


if __name__ == "__main__":
    put_together(Path(sys.argv[1]).resolve(), repository_root() / ".cache" / "live")
