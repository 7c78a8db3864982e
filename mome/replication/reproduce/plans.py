"""Plans of the runs: the parameters of each notebook, checked, and whether an earlier run did the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mome.files.atomic import write_atomically
from mome.files.environment import repository_root, work_folder
from mome.files.hashing import file_sha256
from mome.files.records import Record
from mome.replication.notebook.parameters import notebook_path, profile_stems, read_notebook, resolve
from mome.replication.notebook.results import COMMITTED_PROFILES, Destination, config_hash
from mome.replication.reproduce.limits import Limits, limits_of


@dataclass(frozen=True)
class NotebookPlan:
    """One notebook's run with every parameter checked. `inputs` is the hash of all that its result depends on.

    `folder` is the place of its profile in the work folder.
    """

    profile: str
    stem: str
    parameters: dict[str, Any]
    folder: Path
    destination: Destination
    inputs: str
    limits: Limits

    def kept(self, suffix: str) -> Path:
        """The executed copy (`.ipynb`) or the stamp of an accepted run (`.stamp.json`)."""
        return self.folder / f"{self.stem}{suffix}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one plan; `error` holds the failing cell's traceback or the reason of refusal.

    `tries` is the number of kernels it took: more than one where a kernel hung and a fresh one did not. `memory_gib`
    is the most memory that a notebook that ran took, with its children.
    """

    plan: NotebookPlan
    status: Literal["ran", "skipped", "failed"]
    seconds: float
    error: str = ""
    tries: int = 1
    memory_gib: float | None = None


def make_plans(
    profile: str, only: Sequence[str], changes: Mapping[str, Any], limits: Limits | None = None
) -> list[NotebookPlan]:
    """Check everything before a kernel starts. Raises ParameterError for what is refused.

    `limits` replace those of the profile.
    """
    sources = _sources_hash(repository_root())
    settings = [(stem, resolve(profile, stem, changes)) for stem in profile_stems(profile, only)]
    limits = limits or limits_of(profile)
    return [_plan(profile, stem, parameters, sources, limits) for stem, parameters in settings]


def _plan(profile: str, stem: str, parameters: dict[str, Any], sources: str, limits: Limits) -> NotebookPlan:
    code = [cell.source for cell in read_notebook(notebook_path(stem)).cells if cell.cell_type == "code"]
    inputs = config_hash({"parameters": parameters, "code": code, "sources": sources})
    destination = Destination.fresh(profile, stem)
    return NotebookPlan(profile, stem, parameters, work_folder() / profile, destination, inputs, limits)


def _sources_hash(root: Path) -> str:
    """Over the code and the shipped facts and backbones: whatever changes a result without changing a notebook."""
    files = [path for folder in ("mome", "kernels") for path in (root / folder).rglob("*.py")]
    files += [
        path for folder in ("facts", "backbones") for path in (root / "data" / folder).rglob("*") if path.is_file()
    ]
    return config_hash({str(path.relative_to(root)): file_sha256(path) for path in files})


class Stamp(Record):
    """Hashes that identify an accepted run: of its `inputs`, of the `files` it wrote and of the `kept_tables`."""

    inputs: str
    files: dict[str, str]
    kept_tables: str


def accept(plan: NotebookPlan, files: Iterable[Path]) -> None:
    """Leave the stamp of a finished run that wrote `files`: the last thing that a run does."""
    text = _stamp(plan, [path.name for path in files]).model_dump_json(indent=2)
    write_atomically(plan.kept(".stamp.json"), text + "\n")


def finished(plan: NotebookPlan) -> bool:
    """True where the stamp of an accepted run fits the plan, and its files and the kept tables are still the same."""
    stamp = _read_stamp(plan)
    if stamp is None or not all(plan.destination.place(name).is_file() for name in stamp.files):
        return False
    return stamp == _stamp(plan, stamp.files)


def accepted_files(plan: NotebookPlan) -> list[Path]:
    """The files that the accepted run wrote, by its stamp: tables and figures, then the result; none without one."""
    stamp = _read_stamp(plan)
    paths = [plan.destination.place(name) for name in (stamp.files if stamp else ())]
    return sorted(paths, key=lambda path: (path.suffix == ".json", path))


def _read_stamp(plan: NotebookPlan) -> Stamp | None:
    """The stamp of an earlier run; None if there is none, or if it is damaged or of another version."""
    path = plan.kept(".stamp.json")
    try:
        return Stamp.model_validate_json(path.read_bytes()) if path.is_file() else None
    except ValidationError:
        return None


def _stamp(plan: NotebookPlan, names: Iterable[str]) -> Stamp:
    files = {name: file_sha256(plan.destination.place(name)) for name in names}
    return Stamp(inputs=plan.inputs, files=files, kept_tables=_kept_tables_hash(plan, files.keys()))


def _kept_tables_hash(plan: NotebookPlan, own: Iterable[str]) -> str:
    """Over the committed tables that the notebook may read: those of its name but its `own`, and the shared ones."""
    folders = [Destination.committed(plan.stem, profile).results for profile in COMMITTED_PROFILES]
    names = (f"{plan.stem}_*.csv", "[!0-9]*.csv")
    files = sorted(path for folder in folders for name in names for path in folder.glob(name))
    root = repository_root()
    return config_hash({str(path.relative_to(root)): file_sha256(path) for path in files if path.name not in set(own)})
