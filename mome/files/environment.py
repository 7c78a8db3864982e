"""Where a run happens: the project's folder, the software and code version, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import platformdirs
import psutil
from pydantic import Field

from mome.files.records import Record, Text

ROOT_VARIABLE = "MOME_ROOT"
HOME_VARIABLE = "MOME_HOME"
GIT_SECONDS = 30.0  # for one question to git about this folder
PUBLIC_VARIABLE = "MOME_PUBLIC_DATA"


class Hardware(Record):
    """The machine of a run; memory in GiB."""

    cpu: Text
    cores: Annotated[int, Field(ge=1)]
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    accelerator: Text


class Environment(Record):
    """Software, code version and machine of a run. `dirty` is None where the code is not in a git repository."""

    python: Text
    platform: Text
    torch: Text
    transformers: Text
    peft: Text
    numpy: Text
    mome: Text
    commit: Text
    dirty: bool | None
    hardware: Hardware
    threads: Annotated[int, Field(ge=1)]


def repository_root() -> Path:
    """The project's folder: MOME_ROOT if set, else the nearest folder above the package with mome's pyproject.toml."""
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        if not Path(chosen).is_dir():
            raise FileNotFoundError(f"{ROOT_VARIABLE} is {chosen!r}, which is not a folder")
        return Path(chosen).resolve()
    return _folder_above(Path(__file__).resolve())


@cache  # it is asked for a hundred times by each run, and reads a file
def _folder_above(here: Path) -> Path:
    for folder in here.parents:
        settings = folder / "pyproject.toml"
        if settings.is_file() and tomllib.loads(settings.read_text("utf-8")).get("project", {}).get("name") == "mome":
            return folder
    raise FileNotFoundError(
        f"no folder above {here} has mome's pyproject.toml; set {ROOT_VARIABLE} to the clone's folder"
    )


def work_folder() -> Path:
    """Where runs keep what git ignores (routers, snapshots, executed notebooks, fresh results).

    That is $MOME_HOME if set, else runs/ in the project's folder, or the user's cache folder where the project's cannot
    be written. The folder need not exist yet.

    Raises:
        NotADirectoryError: $MOME_HOME is a file.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser().resolve()
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{HOME_VARIABLE} is {chosen!r}, which is not a folder")
        return folder
    runs = repository_root() / "runs"
    if os.access(runs if runs.exists() else runs.parent, os.W_OK):
        return runs
    return platformdirs.user_cache_path("mome")


def absolute_places() -> dict[str, str]:
    """The environment variables that give a process in another folder the same project, work folder and public sets."""
    places = {HOME_VARIABLE: str(work_folder())}
    if os.environ.get(ROOT_VARIABLE):
        places[ROOT_VARIABLE] = str(repository_root())
    if os.environ.get(PUBLIC_VARIABLE):
        places[PUBLIC_VARIABLE] = str(public_data().resolve())
    return places


def refuse_unwritable_work() -> None:
    """Raise OSError if nothing can be written to the work folder, so that no work is lost later."""
    folder = work_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"trial")
            file.flush()
    except OSError as error:
        remedy = f"set {HOME_VARIABLE} to a folder that can be written"
        raise OSError(f"{folder}: the work folder cannot be written ({error.strerror}); {remedy}") from error


def current_environment() -> Environment:
    """Describe the running interpreter, the checked-out code and the machine."""
    import torch  # here and not above: the command line reads results and must start without it

    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    commit, dirty = _code_version()
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        **{name: _package_version(name) for name in ("torch", "transformers", "peft", "numpy", "mome")},
        commit=commit,
        dirty=dirty,
        hardware=Hardware(
            cpu=_processor_name(),
            cores=os.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            accelerator=accelerator,
        ),
        threads=torch.get_num_threads(),
    )


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _code_version() -> tuple[str, bool | None]:
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return "unknown", None
    # What `mome reproduce --commit` and the long measurements write does not make the code they ran a different one.
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)data/results", ":(exclude)figures")
    return commit, bool(changes)


def _git(*arguments: str) -> str | None:
    command = ("git", "--no-optional-locks", "-C", str(repository_root()), *arguments)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, one that may not run, or a file system that does not answer
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def public_data() -> Path:
    """Folder of the public data sets (truthfulqa/, mmlu/ ...): $MOME_PUBLIC_DATA, else data/public in the project."""
    return Path(os.environ.get(PUBLIC_VARIABLE) or repository_root() / "data" / "public")
