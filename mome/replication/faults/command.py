"""The command `mome faults`: kills and damages in loops, and prints a table of what was lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mome.replication.faults.damaging import Damages
    from mome.replication.faults.killing import Kills

LONGEST = 3_600.0  # seconds that the notebooks' runner may be killed and started again
LOOPS = ("tune", "save", "edit", "reproduce", "damage")


def faults(
    kills: Annotated[int, typer.Option(min=0, help="Kills of each action.")] = 100,
    damages: Annotated[int, typer.Option(min=0, help="Damages of an adapter.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Draws the times of kills and the places of damages.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option(metavar="LOOP", help=f"One of {', '.join(LOOPS)}; repeatable.")
    ] = None,
) -> None:
    """Kill tune, save, edit and reproduce, and damage an adapter: exit code 1 if anything is lost or loaded wrong."""
    chosen = only or list(LOOPS)
    unknown = [name for name in chosen if name not in LOOPS]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: must be one of {', '.join(LOOPS)}")
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when the library is imported, below
    raise typer.Exit(int(not run_faults(chosen, kills, damages, seed)))


def run_faults(chosen: list[str], kills: int, damages: int, seed: int) -> bool:
    """Run the loops `chosen`, print their table, and say whether nothing was lost and nothing loaded wrong.

    The notebooks' runner is killed beside the others, in a process of its own.
    """
    from mome.replication.faults.actions import CODE, kill_reproducing

    if chosen == ["reproduce"]:
        return _told([kill_reproducing(kills, seed)])
    if "reproduce" not in chosen:
        return _told(adapter_loops(chosen, kills, damages, seed))
    command = ["faults", "--only", "reproduce", "--kills", str(kills), "--seed", str(seed)]
    with subprocess.Popen([sys.executable, "-c", CODE, *command], stdout=subprocess.PIPE, text=True) as beside:
        try:
            fine = _told(adapter_loops([name for name in chosen if name != "reproduce"], kills, damages, seed))
            said, _ = beside.communicate(timeout=LONGEST)
        except BaseException:
            beside.kill()
            raise
    typer.echo(said.rstrip())
    return fine and beside.returncode == 0


def adapter_loops(chosen: list[str], kills: int, damages: int, seed: int) -> list[Kills | Damages]:
    """The loops on adapters of a tiny random backbone, in a folder that is removed."""
    from mome.replication.faults.actions import kill_editing, kill_saving, kill_tuning
    from mome.replication.faults.damaging import damage_loop
    from mome.replication.faults.ground import NEW
    from mome.replication.faults.laying import edited_adapter, quiet, small_project, tune_facts, write_adapters

    with small_project() as folder, quiet():
        backbone = write_adapters(folder)
        rows: list[Kills | Damages] = []
        if "tune" in chosen:
            rows.append(kill_tuning(folder, lambda place: tune_facts(place, NEW, backbone), kills, seed))
        if "save" in chosen:
            rows.append(kill_saving(folder, kills, seed))
        if "edit" in chosen:
            rows.append(kill_editing(folder, kills, seed))
        if "damage" in chosen:
            rows.append(damage_loop(edited_adapter(folder), folder / "damaged", damages, seed))
        return rows


def _told(rows: Sequence[Kills | Damages]) -> bool:
    """Print rows and what is wrong; whether nothing is."""
    problems = [problem for row in rows for problem in row.problems]
    for row in rows:
        typer.echo(row)
    for problem in problems:
        typer.echo(f"WRONG {problem}")
    return not problems
