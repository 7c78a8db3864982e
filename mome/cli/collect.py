"""The command `mome collect`: measures the tables of the real model, going on where an earlier run stopped."""

from __future__ import annotations

from typing import Annotated

import typer


def collect(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only those called so (damage-*); repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes at a time, one thread each.")] = 1,
    hours: Annotated[float, typer.Option(min=0.001, help="Time limit of each process.")] = 12.0,
    folder: Annotated[str, typer.Option(help="Folder of the tables.")] = "data/results/small",
    show: Annotated[bool, typer.Option("--list", help="Print the commands and run nothing.")] = False,
) -> None:
    """Measure the tables of the real model; rows that a table has already are not measured again.

    Many hours on two CPU cores. On a GPU give as many jobs as there are cores.
    """
    from mome.files.environment import work_folder
    from mome.replication.collect.measurements import chosen
    from mome.replication.collect.schedule import DONE, run_all

    wanted = chosen(only or [])
    if show:
        typer.echo("\n".join(f"{each.name}: mome {' '.join(each.words(folder))}" for each in wanted))
        return
    ended = run_all(wanted, folder, work_folder() / "collect", jobs, hours * 3_600, typer.echo)
    failed = [f"{name}: {end}" for name, end in ended.items() if end != DONE]
    typer.echo("\n".join([f"{len(ended) - len(failed)} of {len(ended)} measured", *failed]))
    raise typer.Exit(int(bool(failed)))
