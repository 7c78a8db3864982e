"""A made-up run of one notebook: its plan, its outcome, and its values beside committed ones."""

from pathlib import Path
from typing import Literal

from mome.replication.notebook.results import Destination
from mome.replication.reproduce.comparing import Compared
from mome.replication.reproduce.limits import LIMITS
from mome.replication.reproduce.plans import NotebookPlan, Outcome

STEM = "02_tab1_regularization"


def outcome(folder: Path, status: Literal["ran", "skipped", "failed"] = "ran", error: str = "") -> Outcome:
    """A run below `folder` that left no file, with one seed of tiny-llama."""
    destination = Destination(STEM, folder / "results", folder / "figures")
    parameters = {"profile": "tiny", "seeds": [0], "backbones": ["tiny-llama"]}
    plan = NotebookPlan("tiny", STEM, parameters, folder, destination, "", LIMITS["tiny"])
    return Outcome(plan, status, 61.5, error, memory_gib=1.25 if status == "ran" else None)


def comparison() -> list[Compared]:
    """Two values inside, one different, one that is a time."""
    inside = [Compared(STEM, name, "share", 0.5, 0.5, 0.4, 0.6, "inside") for name in ("a", "b")]
    far = Compared(STEM, "far", "share", 9.0, 1.0, 0.5, 1.5, "different", "1 of 3 seeds <b>")
    return [*inside, far, Compared(STEM, "seconds", "s", 3.0, 1.0, None, None, "timed")]
