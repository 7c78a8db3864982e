"""Files of npm packages: taken at a pinned version, checked by SHA-256, and kept for the next time."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mome.files.hashing import file_sha256

SECONDS = 180  # for one package; the largest has 33 MB


class NotTaken(Exception):
    """A package cannot be had here; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package of npm, the SHA-256 of its archive, and those of its files that are taken."""

    name: str
    version: str
    sha256: str
    files: tuple[str, ...]


# the CPU build alone: the others (WebGPU, WebGL) take twice the space
RUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
)
TOKENIZERS = Package(
    "@huggingface/tokenizers",
    "0.2.0",
    "2800014c83b8186b2e4210c20672f1fb65a12cef85d7e95e0f2003e022611b4a",
    ("dist/tokenizers.min.mjs", "LICENSE"),
)
# for the tests: what a reader with a screen reader or a keyboard cannot use
AXE = Package(
    "axe-core",
    "4.14.1",
    "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
    ("axe.min.js",),
)


def take(package: Package, kept: Path) -> list[Path]:
    """The files of `package` in their order, from the folder `kept` or else by `npm pack`.

    npm asks whatever registry it is configured for.

    Raises:
        NotTaken: npm is not installed, cannot reach the package, or got another archive than the pinned one.
    """
    folder = kept / f"{package.name.replace('/', '-')}-{package.version}-{package.sha256[:8]}"
    if not folder.is_dir():
        with TemporaryDirectory() as made:
            _extract(_archive(package, Path(made)), package.files, Path(made) / "files")
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copytree(Path(made) / "files", folder, dirs_exist_ok=True)
    return [folder / name for name in package.files]


def _archive(package: Package, folder: Path) -> Path:
    """The archive as npm got it, checked."""
    wanted, npm = f"{package.name}@{package.version}", shutil.which("npm")
    if npm is None:
        raise NotTaken(f"npm is not installed here, and {wanted} is an npm package")
    command = [npm, "pack", wanted, "--pack-destination", str(folder), "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=folder)
    except subprocess.TimeoutExpired:
        raise NotTaken(f"npm did not get {wanted} within {SECONDS} seconds") from None
    found = sorted(folder.glob("*.tgz"))
    if done.returncode or not found:
        raise NotTaken(f"npm could not get {wanted} (exit code {done.returncode})")
    if file_sha256(found[0]) != package.sha256:
        raise NotTaken(f"npm got another {wanted} than the one that was checked: its SHA-256 differs")
    return found[0]


def _extract(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Write the named files of the archive, and no others, below `folder`."""
    with tarfile.open(archive) as opened:
        for name in names:
            content = opened.extractfile(f"package/{name}")
            if content is None:
                raise NotTaken(f"{archive.name} has no file {name}")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.read())
