"""Errors of commands: what a user can put right becomes one line and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer


@contextmanager
def refusals() -> Iterator[None]:
    """What a user can put right is one line and exit code 2, without a traceback. `main` puts it around every command.

    A pipe that nobody reads any more is left to typer, which ends without a word.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except (ValueError, OSError, FloatingPointError) as error:
        raise _refusal(error) from error
    except RuntimeError as error:
        # imported here: these modules take seconds, and `mome --help` needs none
        from mome.facts.public_sets import HubError
        from mome.files.sealed import CheckpointError
        from mome.lm.backbones.errors import BackboneError
        from mome.train.ranks.pulse import RankError

        if isinstance(error, BackboneError | CheckpointError | HubError | RankError):
            raise _refusal(error) from error
        raise


def _refusal(error: Exception) -> typer.Exit:
    """Say on one line what is wrong; the exit, with code 2, is to be raised."""
    typer.echo("error: " + " ".join(_text(error).split("\n")), err=True)
    return typer.Exit(2)


def _text(error: Exception) -> str:
    """The message; of pydantic's the wrong fields with what they must be, without its own title and web address."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(map(_field, error.errors()))


def _field(found: Mapping[str, Any]) -> str:
    if found["type"] == "value_error":  # raised by a check of ours, which names field and value
        return str(found["ctx"]["error"])
    name, text = ".".join(map(str, found["loc"])), found["msg"].replace("Input should", "must")
    return f"{name} {text}, got {found['input']!r}"
