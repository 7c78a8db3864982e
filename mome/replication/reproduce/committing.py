"""`mome reproduce --commit`: the files of an accepted run replace the committed ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from mome.files.atomic import write_atomically
from mome.files.environment import repository_root
from mome.files.hashing import file_sha256
from mome.replication.notebook.results import COMMITTED_PROFILES, Destination, ResultError, read_result, result_path
from mome.replication.reproduce.comparing import fewer
from mome.replication.reproduce.plans import NotebookPlan, accepted_files


def check_commit(plans: Iterable[NotebookPlan], even_fewer: bool = False) -> None:
    """Refuse, before any run, what must not be committed.

    Raises:
        ResultError: the profile's results are never committed; the committed files cannot be written; or a plan has
            fewer seeds or backbones than the committed result, and `even_fewer` is not given.
    """
    short = []
    for plan in plans:
        if plan.profile not in COMMITTED_PROFILES:
            place = f"those of {plan.profile!r} stay in {plan.destination.results}"
            names = " and ".join(COMMITTED_PROFILES)
            raise ResultError(f"--commit: only results of the profiles {names} are committed; {place}")
        path = result_path(plan.profile, plan.stem)
        _check_writable(path.parent)
        missing = fewer(plan.parameters, read_result(path).config) if path.exists() else []
        short += [f"{plan.stem} has {' and '.join(missing)}"] if missing else []
    if short and not even_fewer:
        remedy = "raise --seeds and --backbones, choose other notebooks with --only, or say --commit-fewer"
        raise ResultError(f"--commit: the committed results have more: {'; '.join(short)}; {remedy}")


def _check_writable(folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK):
        raise ResultError(f"--commit: {there} cannot be written")


def commit(plan: NotebookPlan) -> None:
    """Replace the committed tables, figure, entry in `figures/manifest.json` and result by those of the accepted run.

    Each file is replaced in one act. A commit that was killed between two files is finished by calling again.

    Raises:
        OSError: the disk is full or not writable.
    """
    target = Destination.committed(plan.stem, plan.profile)
    for path in accepted_files(plan):
        if path.suffix != ".pdf":
            write_atomically(target.place(path.name), path.read_bytes())
    if target.figure("png").is_file():
        _enter_manifest(target)


def _enter_manifest(target: Destination) -> None:
    path = repository_root() / "figures" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8")) if path.exists() else {}
    # the path of a figure inside figures/ without its suffix: "<stem>", or "small/<stem>"
    name = target.figure("png").relative_to(repository_root() / "figures").with_suffix("").as_posix()
    manifest[name] = {
        "notebook": f"notebooks/{target.stem}.ipynb",
        "result": target.json.relative_to(repository_root()).as_posix(),
        "png_sha256": file_sha256(target.figure("png")),
    }
    write_atomically(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
