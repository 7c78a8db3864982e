"""The console command `mome`. Commands import what they need when called, so that `mome --help` is quick."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from mome.cli.ask import ask
from mome.cli.chat import chat
from mome.cli.collect import collect
from mome.cli.cost import cost
from mome.cli.edit import edit
from mome.cli.errors import refusals
from mome.cli.fetch import fetch
from mome.cli.replication import bench, claims, pretrain, reproduce
from mome.cli.score import score
from mome.cli.table import table
from mome.cli.tune import tune
from mome.replication.faults.command import faults


class Commands(TyperGroup):
    """The commands; what a user can put right is one line and exit code 2 in each of them."""

    def invoke(self, ctx: Any) -> Any:
        with refusals():
            return super().invoke(ctx)


HELP = "Mixture of Memory Experts: reproduce the paper's claims."
app = typer.Typer(cls=Commands, help=HELP, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Mixture of Memory Experts: reproduce the paper's claims."""


app.command()(reproduce)
app.command()(claims)
app.command()(pretrain)
app.command()(fetch)
app.command()(tune)
app.command()(ask)
app.command()(chat)
app.command()(bench)
app.command()(collect)
app.command()(cost)
app.command()(faults)
app.add_typer(edit, name="edit")
app.command()(score)
app.add_typer(table, name="table")
