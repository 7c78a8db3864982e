"""Errors of commands: what a user can put right becomes one line and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def refusals() -> Iterator[None]:
    """What a user can put right is one line and exit code 2, without a traceback."""
    from mome.files.checkpoints import CheckpointError
    from mome.lm.loading import BackboneError

    try:
        yield
    except (BackboneError, CheckpointError, ValueError, OSError, FloatingPointError) as error:
        raise refused(error) from error


def refused(error: object) -> typer.Exit:
    """Say on one line what is wrong; the exit, with code 2, is to be raised."""
    typer.echo("error: " + " ".join(str(error).split("\n")), err=True)
    return typer.Exit(2)
