"""What a run of the notebooks is to do: each one's parameters, checked, and whether an earlier run did the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mome.parameters import chosen_stems, notebook_path, read_notebook, resolve
from mome.results import Destination, config_hash, repository_root


@dataclass(frozen=True)
class Plan:
    """One notebook's run with every parameter checked. `inputs` is the hash of all that its result depends on."""

    profile: str
    stem: str
    parameters: dict[str, Any]
    destination: Destination
    inputs: str

    def kept(self, suffix: str) -> Path:
        """The executed copy (`.ipynb`) or the stamp (`.stamp.json`) in the ignored folder `runs/`."""
        return self.destination.root / "runs" / self.profile / f"{self.stem}{suffix}"


@dataclass(frozen=True)
class Outcome:
    """What became of one plan; `error` holds the failing cell's traceback or the reason of refusal."""

    plan: Plan
    status: Literal["ran", "skipped", "failed"]
    seconds: float
    error: str = ""


def make_plans(profile: str, only: Sequence[str], changes: Mapping[str, Any]) -> list[Plan]:
    """Check everything before a kernel starts. Raises ParameterError or ResultError for what is refused."""
    sources = _sources_hash(repository_root())
    return [_plan(profile, stem, resolve(profile, stem, changes), sources) for stem in chosen_stems(only)]


def _plan(profile: str, stem: str, parameters: dict[str, Any], sources: str) -> Plan:
    code = [cell.source for cell in read_notebook(notebook_path(stem)).cells if cell.cell_type == "code"]
    inputs = config_hash({"parameters": parameters, "code": code, "sources": sources})
    return Plan(profile, stem, parameters, Destination.choose(profile, stem, parameters), inputs)


def _sources_hash(root: Path) -> str:
    """Over the code and the shipped facts and backbones: whatever changes a result without changing a notebook."""
    files = [path for folder in ("mome", "kernels") for path in (root / folder).rglob("*.py")]
    files += [
        path for folder in ("facts", "backbones") for path in (root / "data" / folder).rglob("*") if path.is_file()
    ]
    return config_hash({str(path.relative_to(root)): _sha256(path) for path in files})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finished(plan: Plan) -> bool:
    """True where the stamp of an accepted run fits the plan, and its result and tables are still the same."""
    stamp, result = plan.kept(".stamp.json"), plan.destination.json
    if not (stamp.is_file() and result.is_file()):
        return False
    return json.loads(stamp.read_text("utf-8")) == stamp_of(plan)


def stamp_of(plan: Plan) -> dict[str, str]:
    """What an accepted run of `plan` is known by: its inputs, and the hashes of its result and of the kept tables."""
    result = plan.destination.json
    return {
        "inputs": plan.inputs,
        "result": result.relative_to(plan.destination.root).as_posix(),
        "sha256": _sha256(result),
        "tables": _tables_hash(plan.stem),
    }


def _tables_hash(stem: str) -> str:
    """Over the tables beside tiny's result: long measurements that the notebook reads in every profile, and its own."""
    files = (repository_root() / "data" / "results" / "tiny").glob(f"{stem}_*.csv")
    return config_hash({path.name: _sha256(path) for path in files})
