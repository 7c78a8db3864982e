"""`mome claims`: the table of claims, README's ten results, the evidence, numbers in prose, verdicts in files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import get_args

from mome.files.atomic import write_atomically
from mome.files.environment import repository_root
from mome.replication.ledger.holm import Decided, corrected, level_text
from mome.replication.ledger.rule import Case, Reading
from mome.replication.ledger.rules import RULES
from mome.replication.ledger.verdicts import Evidence, Judged, judge_all, number_text, own_claims
from mome.replication.notebook.claims import ClaimsError, PaperClaim, read_claims
from mome.replication.notebook.marked_numbers import MarkError, with_numbers
from mome.replication.notebook.results import COMMITTED_PROFILES, Result, ResultError, Verdict, read_result, result_text

CLAIMS = "claims"  # what stands in a page between <!-- claims:begin --> and <!-- claims:end -->
RESULTS = "results"
HEADER = ("id", "where", "claim", "paper's value", "ours (95% interval)", "verdict", "why", "notebooks")
RESULTS_HEADER = ("result", "measured (95% interval, n)", "claim of the paper", "notebook")
NUMBER = ("number", "value", "low", "high", "unit", "n", "seeds")
EVIDENCE = ("claim", "notebook", "profile", "backbones", *NUMBER, "decides", "metric")


def committed_result_paths() -> list[Path]:
    """Every result file that is committed, of all profiles, by profile and name."""
    folder = repository_root() / "data" / "results"
    return [path for profile in COMMITTED_PROFILES for path in sorted((folder / profile).glob("*.json"))]


def claims_table() -> str:
    """The Markdown table: one row for each claim, from all committed results.

    Raises ResultError for an invalid result file and ClaimsError for a claim without a rule.
    """
    judged = judge_all(read_result(path) for path in committed_result_paths())
    levels = corrected({name: Decided(each.verdict, each.case.decide, each.numbers) for name, each in judged.items()})
    lines = [_row(HEADER), _row("---" for _ in HEADER)]
    for claim in _ruled_claims():
        lines.append(_row(_cells(claim, judged[claim.id], levels.get(claim.id))))
    return "\n".join(lines)


def results_table() -> str:
    """README's Markdown table of ten results, and the count of claims by verdict. Raises ResultError."""
    results = [read_result(path) for path in committed_result_paths()]
    judged = judge_all(results)
    lines = [_row(RESULTS_HEADER), _row("---" for _ in RESULTS_HEADER)]
    lines += [_row(cells) for cells in _finding_cells(Evidence.of(results), judged)]
    return "\n".join([*lines, "", _tally(judged)])


def _finding_cells(evidence: Evidence, judged: dict[str, Judged]) -> Iterator[tuple[str, ...]]:
    """README's results from `data/findings.csv`: a line of the file for each number, a row for each finding."""
    with (repository_root() / "data" / "findings.csv").open(encoding="utf-8", newline="") as file:
        for finding, numbers in groupby(csv.DictReader(file), key=lambda line: line["finding"]):
            lines = list(numbers)
            told = "; ".join(f"{line['label']} {_number(line, evidence)}" for line in lines)
            claim, stem = lines[0]["claim"], lines[0]["notebook"]
            about = f"{claim}: {judged[claim].verdict}" if claim else "-"
            yield finding, told, about, f"[{stem[:2]}](notebooks/{stem}.ipynb)"


def _number(line: dict[str, str], evidence: Evidence) -> str:
    found = evidence.metric(line["profile"], Reading(line["notebook"], line["metric"], line["label"]))
    return number_text(found) if found is not None else "not measured"


def _tally(judged: dict[str, Judged]) -> str:
    """The sum over all claims, such as "28 claims of the paper: 6 reproduced, 9 mixed"."""
    verdicts = [each.verdict for each in judged.values()]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in get_args(Verdict))
    return f"{len(verdicts)} claims of the paper: {counts}."


def _ruled_claims() -> list[PaperClaim]:
    claims = read_claims()
    without = [claim.id for claim in claims if claim.id not in RULES]
    if without:
        raise ClaimsError(f"data/claims.csv: no rule for {', '.join(without)}; write one in mome/replication/ledger")
    return claims


def _cells(claim: PaperClaim, judged: Judged, level: float | None) -> tuple[str, ...]:
    links = ", ".join(f"[{stem[:2]}](../{stem}.ipynb)" for stem in claim.notebooks)
    why = judged.why if level is None else f"{judged.why}; {level_text(level)}"
    ours = (judged.measured, f"**{judged.verdict}**", why)
    return claim.id, claim.where, claim.claim, claim.paper_value, *ours, links


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_cell(text) for text in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("$", "\\$")


def evidence_path() -> Path:
    """The table of all numbers behind the verdicts."""
    return repository_root() / "data" / "results" / "claims.csv"


def evidence_table() -> str:
    """CSV, one row for each number that bears on a claim: also those that did not decide it."""
    results = [read_result(path) for path in committed_result_paths()]
    evidence, judged = Evidence.of(results), judge_all(results)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(EVIDENCE)
    for name, rule in RULES.items():
        for each in rule.cases:
            table.writerows(_evidence_rows(name, each, each is judged[name].case, evidence))
    return text.getvalue()


def _evidence_rows(claim: str, each: Case, chosen: bool, evidence: Evidence) -> Iterator[tuple[object, ...]]:
    for key, reading in each.readings.items():
        found = evidence.metric(each.profile, reading)
        if found is None:
            continue
        ends = [f"{end:.6g}" for end in found.ci95] if found.ci95 else ["", ""]
        number = (reading.label, f"{found.value:.6g}", *ends, found.unit, found.n)
        decides = "yes" if chosen and key in each.needs else "no"
        whose = _whose(each, reading, evidence)
        yield (
            claim,
            reading.stem,
            each.profile,
            whose,
            *number,
            evidence.seeds(each.profile, reading),
            decides,
            reading.metric,
        )


def _whose(each: Case, reading: Reading, evidence: Evidence) -> str:
    return " ".join(map(str, evidence.results[each.profile, reading.stem].config["backbones"]))


def with_verdicts(result: Result) -> str:
    """The text of a result file whose verdicts are those of today's rules on its own numbers."""
    claims = own_claims(result.notebook, result.config, result.metrics)
    return result_text(result.model_copy(update={"claims": claims}))


def claims_path() -> Path:
    """The page of the book with one row a claim."""
    return repository_root() / "notebooks" / "book" / "claims.md"


def _wanted_texts() -> dict[Path, str]:
    """What the evidence table, README, the pages of the book and the notebooks should say.

    Raises ClaimsError for bad markers of a table, and MarkError for a marked number without its metric.
    """
    readme = repository_root() / "README.md"
    pages = sorted(claims_path().parent.rglob("*.md"))
    notebooks = sorted((repository_root() / "notebooks").glob("*.ipynb"))  # a mark is the same text in JSON
    texts = {path: path.read_text("utf-8") for path in (readme, *pages, *notebooks)}
    texts[claims_path()] = _with_table(claims_path(), CLAIMS, claims_table())
    texts[readme] = _with_table(readme, RESULTS, results_table())
    return {evidence_path(): evidence_table()} | {path: with_numbers(text, path) for path, text in texts.items()}


def rewrite() -> list[Path]:
    """Bring verdicts, evidence table, page of claims and README up to date; returns the files that changed.

    Raises ClaimsError for bad markers, and MarkError.
    """
    wanted = {path: with_verdicts(read_result(path)) for path in committed_result_paths()}
    changed = [path for path, text in wanted.items() if path.read_text("utf-8") != text]
    for path in changed:
        write_atomically(path, wanted[path])
    for path, text in _wanted_texts().items():
        if not path.is_file() or path.read_text("utf-8") != text:
            write_atomically(path, text)
            changed.append(path)
    return changed


def _with_table(path: Path, name: str, table: str) -> str:
    text, begin, end = path.read_text("utf-8"), f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    for marker in (begin, end):
        if text.count(marker) != 1:
            raise ClaimsError(f"{path}: the marker {marker} must stand there once, found {text.count(marker)} times")
    head, _, rest = text.partition(begin)
    if end not in rest:
        raise ClaimsError(f"{path}: {end} stands before {begin}")
    return f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


def check() -> list[str]:
    """What keeps the ledger from being true; empty if nothing does.

    Invalid result files (a config hash that does not fit its config among them), results without a notebook, verdicts
    that differ from what the rules say of the numbers, and a table that differs from what the results say.
    """
    problems = []
    for path in committed_result_paths():
        if not (repository_root() / "notebooks" / f"{path.stem}.ipynb").is_file():
            problems.append(f"{path}: there is no notebooks/{path.stem}.ipynb")
        try:
            if json.loads(with_verdicts(read_result(path))) != json.loads(path.read_text("utf-8")):
                problems.append(f"{path}: its verdicts are out of date; run `mome claims`")
        except ResultError as error:
            problems.append(str(error))
    return problems or _outdated()


def _outdated() -> list[str]:
    try:
        wanted = _wanted_texts()
    except (ClaimsError, MarkError) as error:
        return [str(error)]
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    return [f"{path}: it does not say what the results say; run `mome claims`" for path in stale]
