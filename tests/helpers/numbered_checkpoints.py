"""Checkpoints whose every tensor tells their number, for the tests of `mome.files.checkpoints` and
`mome.files.folders`.
"""

from pathlib import Path

import torch

from mome.files.checkpoints import Members, read_checkpoint, write_checkpoint

ROWS = [torch.full((20_000,), float(number)) for number in range(64)]


def members_of(number: int) -> Members:
    return {"bank": {"rows": ROWS[number % 64]}, "optimizer": {"moments": ROWS[number % 64][:999], "none": ROWS[0][:0]}}


def save(folder: Path, step: int, number: int | None = None, keep: int = 2) -> Path:
    number = step if number is None else number
    return write_checkpoint(folder, step, members_of(number), {"number": number}, keep)


def number_of(members: Members, state: dict) -> int:
    """The number of a checkpoint, once all its members and its state are seen to belong together."""
    assert members.keys() == {"bank", "optimizer"}
    assert torch.equal(members["bank"]["rows"], ROWS[state["number"] % 64])
    assert torch.equal(members["optimizer"]["moments"], ROWS[state["number"] % 64][:999])
    return state["number"]


def load(folder: Path) -> tuple[int, int]:
    """Step and number of the newest checkpoint."""
    found = read_checkpoint(folder)
    assert found is not None
    return found.step, number_of(found.members, found.state)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())
