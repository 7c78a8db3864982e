"""The command `mome edit`: adds, updates and deletes single facts of a saved adapter, and takes such edits back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from mome.memory.memory import Memory

edit = typer.Typer(
    help="Add, update or delete single facts of an adapter, or take such edits back.", no_args_is_help=True
)

Unwritable = Literal["refuse", "leave_out"]
Adapter = Annotated[Path, typer.Argument(help="Folder of the adapter.")]
Backbone = Annotated[str | None, typer.Option(help="Another backbone than the one the adapter names.")]
Phrasings = Annotated[list[str] | None, typer.Option("--phrasing", help="Another wording to memorize; repeatable.")]
Which = Annotated[str, typer.Argument(help="The fact: its id, or a question it is memorized with.")]


@edit.command()
def add(
    adapter: Adapter,
    question: Annotated[str | None, typer.Argument(help="The question.")] = None,
    answer: Annotated[str | None, typer.Argument(help="Its answer.")] = None,
    phrasing: Phrasings = None,
    identity: Annotated[str | None, typer.Option("--id", help="Default: a hash of the question.")] = None,
    facts: Annotated[Path | None, typer.Option(help="Or a file of facts, .jsonl, .csv or .tsv, each an edit.")] = None,
    unwritable: Annotated[
        Unwritable, typer.Option(help="Refuse facts that the backbone cannot hold before any edit, or leave them out.")
    ] = "refuse",
    backbone: Backbone = None,
) -> None:
    """Memorize one fact more, or those of a file one after the other."""
    from mome.facts.fact import Fact, identify
    from mome.facts.readers import check_facts, locate_facts
    from mome.lm.round_trip import holdable

    if facts is None and question is not None and answer is not None:
        new = {1: Fact(identity or identify(question), question, answer, tuple(phrasing or ()))}
    elif facts is not None and question is None and not phrasing and identity is None:
        new = locate_facts(facts)
    else:
        raise ValueError("add: give a question and its answer, or --facts with a file")
    name = "the command line" if facts is None else str(facts)
    check_facts(list(new.values()), name, list(new))
    with _opened(adapter, backbone) as memory:
        chosen, left_out = holdable(memory.backbone, list(new.values()), unwritable, name, list(new))
        for fact in chosen:
            typer.echo(memory.add(fact))
        for obstacle in left_out:
            typer.echo(f"left out: {obstacle}")


@edit.command()
def update(
    adapter: Adapter,
    which: Which,
    answer: Annotated[str, typer.Argument(help="The new answer.")],
    question: Annotated[str | None, typer.Option(help="A new question; default: as before.")] = None,
    phrasing: Phrasings = None,
    backbone: Backbone = None,
) -> None:
    """Replace a fact's answer; its question and phrasings stay, unless others are given."""
    with _opened(adapter, backbone) as memory:
        old = memory.find(which)
        phrasings = tuple(phrasing or old.phrasings)
        new = replace(old, question=question or old.question, answer=answer, phrasings=phrasings)
        typer.echo(memory.update(new))


@edit.command()
def delete(adapter: Adapter, which: Which, backbone: Backbone = None) -> None:
    """Forget a fact."""
    with _opened(adapter, backbone) as memory:
        done = memory.delete(which)
        typer.echo(done)
        if done.backbone_knows:
            typer.echo("note: the backbone gives this answer by itself", err=True)


@edit.command()
def rollback(
    adapter: Adapter,
    to: Annotated[int, typer.Argument(min=0, help="Number of the edit whose state is to come back; 0: none made.")],
    backbone: Backbone = None,
) -> None:
    """Go back to the state after an edit, bit for bit."""
    with _opened(adapter, backbone) as memory:
        typer.echo(memory.rollback(to))


@edit.command()
def history(adapter: Adapter) -> None:
    """List the edits, oldest first: number, time, what was done."""
    from mome.memory.loading import read_history

    typer.echo("\n".join(str(done) for done in read_history(adapter)) or "no edits")


@contextmanager
def _opened(adapter: Path, backbone: str | None) -> Iterator[Memory]:
    from mome.memory.loading import edit_memory

    with edit_memory(adapter, backbone) as memory:
        yield memory
