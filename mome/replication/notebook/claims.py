"""The claims table of README.md: the paper's claims beside what was measured here, from the committed result files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mome.files.atomic import write_atomically
from mome.files.environment import repository_root
from mome.replication.notebook.results import COMMITTED_PROFILES, Claim, Result, ResultError, Verdict, read_result

BEGIN = "<!-- claims:begin -->"
END = "<!-- claims:end -->"
FIELDS = ("id", "where", "claim", "paper_value", "notebooks")
HEADER = ("id", "where", "claim", "paper's value", "ours", "verdict", "notebook")


class ClaimsError(ValueError):
    """A claims list, result file or README that cannot be used; the message names the file and the place."""


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


def judge(claim_id: str, verdict: Verdict, measured: str, why: str) -> Claim:
    """A notebook's verdict on one claim, beside the paper's value from `data/claims.csv`.

    Raises:
        ClaimsError: the paper makes no claim of this id.
    """
    paper = {claim.id: claim.paper_value for claim in read_claims()}
    if claim_id not in paper:
        raise ClaimsError(f"claim {claim_id!r} is not in data/claims.csv")
    return Claim(id=claim_id, paper=paper[claim_id], measured=measured, verdict=verdict, why=why)


def committed_result_paths() -> list[Path]:
    """Every result file that the README uses, by name; those of smaller runs (`fresh/`) are left out."""
    return sorted((repository_root() / "data" / "results" / COMMITTED_PROFILES[0]).glob("*.json"))


def claims_table() -> str:
    """The Markdown table: one row for each claim and notebook that reports on it, or is to test it.

    Raises ResultError for an invalid result file and ClaimsError for a verdict on a claim that the list does not have.
    """
    claims = read_claims()
    results = [(path, read_result(path)) for path in committed_result_paths()]
    unknown = [problem for path, result in results for problem in _unknown_claims(path, result, claims)]
    if unknown:
        raise ClaimsError("; ".join(unknown))
    lines = [_row(HEADER), _row("---" for _ in HEADER)]
    for claim in claims:
        reports = {
            result.notebook: report for _, result in results for report in result.claims if report.id == claim.id
        }
        for stem in sorted({*claim.notebooks, *reports}):
            lines.append(_reported(claim, stem, reports[stem]) if stem in reports else _not_tested(claim, stem))
    return "\n".join(lines)


def _unknown_claims(path: Path, result: Result, claims: list[PaperClaim]) -> list[str]:
    known = {claim.id for claim in claims}
    return [
        f"{path}: field claims: {report.id} is not in data/claims.csv"
        for report in result.claims
        if report.id not in known
    ]


def _reported(claim: PaperClaim, stem: str, report: Claim) -> str:
    link = f"[{stem}](notebooks/{stem}.ipynb)"
    return _row((claim.id, claim.where, claim.claim, claim.paper_value, report.measured, report.verdict, link))


def _not_tested(claim: PaperClaim, stem: str) -> str:
    return _row((claim.id, claim.where, claim.claim, claim.paper_value, "", "not tested", f"{stem}, to come"))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_cell(text) for text in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("$", "\\$")


def rewrite_readme(readme_path: Path) -> bool:
    """Put the current table between the markers; True if the file changed. Raises ClaimsError for bad markers."""
    before = readme_path.read_text("utf-8")
    after = _with_table(before, claims_table(), readme_path)
    if after != before:
        write_atomically(readme_path, after)
    return after != before


def _with_table(text: str, table: str, path: Path) -> str:
    for marker in (BEGIN, END):
        if text.count(marker) != 1:
            raise ClaimsError(f"{path}: the marker {marker} must stand there once, found {text.count(marker)} times")
    head, _, rest = text.partition(BEGIN)
    if END not in rest:
        raise ClaimsError(f"{path}: {END} stands before {BEGIN}")
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def check() -> list[str]:
    """What keeps the README's table from being true; empty if nothing does.

    Invalid result files (a config hash that does not fit its config among them), results without a notebook, verdicts
    on unknown claims, notebooks without a verdict on a claim that they test, and a table that differs from what the
    results say.
    """
    claims = read_claims()
    problems = []
    for path in committed_result_paths():
        if not (repository_root() / "notebooks" / f"{path.stem}.ipynb").is_file():
            problems.append(f"{path}: there is no notebooks/{path.stem}.ipynb")
        try:
            problems += _unknown_claims(path, read_result(path), claims)
        except ResultError as error:
            problems.append(str(error))
    return problems or _missing_verdicts(claims) or _readme_problems(repository_root() / "README.md")


def _missing_verdicts(claims: list[PaperClaim]) -> list[str]:
    """Claims on which a notebook that is there has no committed verdict, though the list says that it tests them."""
    reported = {(path.stem, report.id) for path in committed_result_paths() for report in read_result(path).claims}
    expected = [(stem, claim.id) for claim in claims for stem in claim.notebooks]
    folder = repository_root() / "notebooks"
    return [
        f"{folder / stem}.ipynb: no committed result has its verdict on {claim}; data/claims.csv says that it tests it"
        for stem, claim in expected
        if (stem, claim) not in reported and (folder / f"{stem}.ipynb").is_file()
    ]


def _readme_problems(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    try:
        current = _with_table(text, claims_table(), path)
    except ClaimsError as error:
        return [str(error)]
    return [] if text == current else [f"{path}: the claims table is out of date; run `mome claims`"]
