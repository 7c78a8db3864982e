"""The command `mome ask`: answers questions from memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

WhenWrong = Literal["abstain", "backbone", "stored"]


def ask(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    questions: Annotated[list[str] | None, typer.Argument(help="Questions, each in quotes.")] = None,
    file: Annotated[
        Path | None, typer.Option("--questions", help="Text file with a question a line; - for standard input.")
    ] = None,
    only_memorized: Annotated[
        bool, typer.Option("--only-memorized", help='Say "I don\'t know" where no memorized question is similar.')
    ] = False,
    when_wrong: Annotated[
        WhenWrong,
        typer.Option(help="What to give where the experts' answer is not the recognized fact's."),
    ] = "abstain",
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the one the adapter names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    r"""Answer questions from memory, one line each: the answer, a tab, and who gave it.

    In an answer \t, \n, \r and \\ stand for tab, line feed, carriage return and backslash, \u and four hexadecimal
    digits for another control character or line break.

    "memorized" stands beside an answer only if it is exactly the answer of the recognized fact. A question that
    resembles no memorized one is answered by the backbone alone.
    """
    from mome.cli.lines import answer_lines, gather_questions

    asked = gather_questions(questions or [], file)
    typer.echo("\n".join(answer_lines(adapter, asked, backbone, only_memorized, when_wrong, as_json)))
