"""What all tables share: their group of commands, their options, and how a measured row is kept.

A row is written when it is measured, with the machine, the commit and the command that measures it again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

table = typer.Typer(
    help="Measure one of the tables that notebooks read; a CSV file grows by one row at a time.", no_args_is_help=True
)

REPLACED = "CSV table; rows of the same run are replaced, others kept."
KEPT = "CSV table; rows that it has already are not measured again."
Replacing = Annotated[Path, typer.Argument(help=REPLACED)]
Continuing = Annotated[Path, typer.Argument(help=KEPT)]
Seeds = Annotated[int, typer.Option(min=1, metavar="N", help="Run with the seeds 0 to N-1.")]
CountSeeds = Annotated[int, typer.Option(min=1, metavar="N", help="Run with N seeds.")]
FirstSeed = Annotated[int, typer.Option(min=0, help="The first seed.")]
Backbone = Annotated[str, typer.Option(help="Name, folder, GGUF file or Hub id of a causal LM.")]
Again = Annotated[bool, typer.Option("--again", help="Measure also what the table has already.")]
General = Annotated[int, typer.Option(min=1, help="Questions that the backbone knows.")]


def keep(
    context: typer.Context,
    rows: Iterable[Mapping[Any, Any]],
    key: Sequence[str],
    *,
    texts: Sequence[str] = (),
    digits: int = 10,
) -> None:
    """Write each row when it is measured; `key`, `texts` and `digits` are those of `keep_rows`."""
    from mome.replication.notebook.tables import keep_rows, machine_columns

    command = command_line(context)
    for row in rows:
        kept = {**row, **machine_columns(), "command": command}
        keep_rows(Path(context.params["out"]), [kept], key, texts=texts, digits=digits)


def command_line(context: typer.Context) -> str:
    """The command that measures the same rows: all options with their values, defaults included, but no flags."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif value is not None and not isinstance(value, bool):
            values = value if isinstance(value, list | tuple) else [value]
            words += [f"{parameter.opts[0]}={each}" for each in values]
    return shlex.join(["mome", "table", str(context.info_name), *words])
