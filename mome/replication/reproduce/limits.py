"""Time limits of a cell and of a notebook, by profile."""

from __future__ import annotations

from dataclasses import dataclass

HOUR = 3600


class LimitError(ValueError):
    """Limits that contradict each other; the message names both."""


@dataclass(frozen=True)
class Limits:
    """Seconds by the clock, `cell` for any one cell and `notebook` for all of one try, the kernel's start included."""

    cell: int
    notebook: int


# A limit ends what would never end, so it must be far above the slowest run that is honest. On two quiet cores the
# slowest notebook takes half a minute at smoke and 23 minutes at tiny, where all seeds are run, most of it in one
# cell; beside other work both have taken five times as long. At small none took more than 15 minutes beside three
# other programs. Paper runs for hours on one GPU, and was never timed on less.
LIMITS = {
    "smoke": Limits(cell=300, notebook=900),
    "tiny": Limits(cell=2 * HOUR, notebook=4 * HOUR),
    "small": Limits(cell=2 * HOUR, notebook=4 * HOUR),
    "paper": Limits(cell=48 * HOUR, notebook=14 * 24 * HOUR),
}


def limits_of(profile: str, cell: int | None = None, notebook: int | None = None) -> Limits:
    """The profile's limits, or the given ones in their place; the other one then moves along where it must.

    Raises LimitError where both are given and the cell's is the longer one, which no cell could reach.
    """
    usual = LIMITS[profile]
    if cell is not None and notebook is not None and cell > notebook:
        raise LimitError(f"--cell-seconds {cell} is more than --notebook-seconds {notebook}: no cell can reach it")
    if cell is None:
        return Limits(min(usual.cell, notebook or usual.notebook), notebook or usual.notebook)
    return Limits(cell, notebook or max(usual.notebook, cell))
