"""The command `mome chat`: a conversation with a memory in the terminal, or one read from standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mome.cli.ask import WhenWrong

if TYPE_CHECKING:
    from mome.memory.conversation import Conversation

HELP = "/own shows the backbone's own answer to the last question, /new starts a new conversation, /quit ends it."
STANDARD_INPUT = "standard input"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all control characters but the line feed


def chat(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    when_wrong: Annotated[
        WhenWrong, typer.Option(help="What to give where the experts' answer is not the recognized fact's.")
    ] = "abstain",
    longest: Annotated[int, typer.Option(min=1, help="Most tokens of an answer of the backbone.")] = 256,
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the one the adapter names.")] = None,
) -> None:
    """Converse with a memory: answers appear token by token, each marked with who gave it.

    The last question is looked up in the memory; what is not memorized the backbone answers, having read the turns
    before. /own shows the backbone's own answer beside it, /new starts anew, /quit ends. Standard input may be a file
    with a question or a command a line.
    """
    from mome.memory.conversation import Conversation
    from mome.memory.loading import load_memory

    memory = load_memory(adapter, backbone)
    talk, terminal = Conversation(memory, when_wrong, longest), sys.stdin.isatty()
    if terminal:
        typer.secho(HELP, dim=True)
    for number, words in enumerate(_typed() if terminal else _piped(), start=1):
        if words == "/quit":
            return
        if words == "/new":
            talk = Conversation(memory, when_wrong, longest)
        elif words:
            _turn(talk, words, number, terminal)


def _turn(talk: Conversation, words: str, number: int, terminal: bool) -> None:
    """Answer a line. In a terminal a question that cannot be asked is refused and the conversation goes on."""
    from mome.facts.strict import FactError

    try:
        _command(talk, words) if words.startswith("/") else _question(talk, words)
    except FactError as error:
        if not terminal:
            raise FactError(STANDARD_INPUT, number, error.field, error.value, error.problem) from error
        typer.echo(f"error: {error}", err=True)
    except KeyboardInterrupt:
        if not terminal:
            raise
        typer.secho("  [stopped]", dim=True)


def _question(talk: Conversation, words: str) -> None:
    shown: list[str] = []

    def show(piece: str) -> None:
        shown.append(piece)
        _write(piece)

    answer = talk.ask(words, show)
    if "".join(shown) != answer.text:
        _write(f"{' ...' if shown else ''}\n{answer.text}" if shown else answer.text)
    typer.secho(f"  [{answer.label}]", dim=True)


def _command(talk: Conversation, words: str) -> None:
    if words != "/own":
        typer.echo(f"unknown command {words}: {HELP}")
    elif talk.own(_write) is None:
        typer.echo("no question yet")
    else:
        typer.secho("  [backbone alone]", dim=True)


def _write(text: str) -> None:
    """Show a piece of an answer at once; a control character as its code, as it could command the terminal."""
    typer.echo(CONTROL.sub(lambda found: rf"\x{ord(found[0]):02x}", text), nl=False)
    sys.stdout.flush()


def _typed() -> Iterator[str]:
    """The lines that a user types, until the end of the input or Ctrl-C."""
    while True:
        try:
            yield input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return


def _piped() -> Iterator[str]:
    """The lines of standard input, each as soon as it is there."""
    from mome.facts.strict import FactError, decode

    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield decode(line, STANDARD_INPUT).strip()
        except FactError as error:
            raise FactError(STANDARD_INPUT, number, error.field, error.value, error.problem) from error
