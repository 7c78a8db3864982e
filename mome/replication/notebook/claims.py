"""The paper's claims, from `data/claims.csv`."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from mome.files.environment import repository_root

FIELDS = ("id", "where", "claim", "paper_value", "notebooks")


class ClaimsError(ValueError):
    """A claims list, a result file or a page that cannot be used; the message names the file and the place."""


@dataclass(frozen=True)
class PaperClaim:
    """One row of `data/claims.csv`: where the paper says what, with which value, and the notebooks that test it."""

    id: str
    where: str
    claim: str
    paper_value: str
    notebooks: tuple[str, ...]


def read_claims(path: Path | None = None) -> list[PaperClaim]:
    """The paper's claims in the file's order. Raises ClaimsError naming file, line, field and value."""
    path = path or repository_root() / "data" / "claims.csv"
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = tuple(next(reader, ()))
        if header != FIELDS:
            raise ClaimsError(f"{path}:1: columns must be {','.join(FIELDS)}, got {','.join(header)}")
        rows: dict[str, PaperClaim] = {}
        try:
            for cells in reader:
                claim = _claim_from(cells, f"{path}:{reader.line_num}")
                if claim.id in rows:
                    raise ClaimsError(f"{path}:{reader.line_num}: field id: {claim.id!r} stands there twice")
                rows[claim.id] = claim
        except csv.Error as error:
            raise ClaimsError(f"{path}:{reader.line_num}: not CSV: {error}") from error
    return list(rows.values())


def _claim_from(cells: list[str], place: str) -> PaperClaim:
    if len(cells) != len(FIELDS):
        raise ClaimsError(f"{place}: expected {len(FIELDS)} fields, got {len(cells)}: {cells}")
    for name, value in zip(FIELDS, cells, strict=True):
        if not value.strip():
            raise ClaimsError(f"{place}: field {name}: is empty")
    if not re.fullmatch(r"C\d\d", cells[0]):
        raise ClaimsError(f"{place}: field id: expected C and two digits, got {cells[0]!r}")
    name, where, claim, value, notebooks = cells
    for stem in notebooks.split():
        if not re.fullmatch(r"\d\d_\w+", stem):
            raise ClaimsError(f"{place}: field notebooks: expected names like 01_fig1_topic, got {stem!r}")
    return PaperClaim(name, where, claim, value, tuple(notebooks.split()))
