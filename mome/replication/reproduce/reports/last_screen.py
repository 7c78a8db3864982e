"""The last screen of `mome reproduce`: the runs, the sums, what differs and why, where the full table is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mome.replication.reproduce.comparing import Compared, Verdict, write_comparison
from mome.replication.reproduce.plans import Outcome
from mome.replication.reproduce.reports.page import write_page
from mome.replication.reproduce.reports.record import RunReport, write_record

SUMS: dict[Verdict, str] = {
    "inside": "values inside their interval",
    "different": "different (named below)",
    "timed": "times and memory (not judged)",
    "not committed": "without a committed value",
    "not measured": "committed but not measured here",
}


def report(outcomes: Sequence[Outcome], compared: Sequence[Compared], console: Console, path: Path) -> None:
    """Print the outcome of each notebook, each value that differs from the committed one, and each failure.

    Every value is written to `path` as CSV; the last line names it.
    """
    counts = Counter(row.notebook for row in compared if row.fresh is not None)
    table = Table("notebook", "status", "seconds", "metrics", title="runs")
    for outcome in outcomes:
        metrics = "" if outcome.status == "failed" else str(counts[outcome.plan.stem])
        status = outcome.status if outcome.tries == 1 else f"{outcome.status} (try {outcome.tries}: the kernel hung)"
        table.add_row(outcome.plan.stem, status, f"{outcome.seconds:.1f}", metrics)
    console.print(table)
    _print_line(console, sums(compared))
    for row in compared:
        if row.verdict == "different":
            _print_line(console, str(row))
    for outcome in outcomes:
        if outcome.status == "failed":
            console.print(f"FAILED {outcome.plan.stem}", style="bold red", markup=False)
            console.print(Text.from_ansi(outcome.error), soft_wrap=True)
    write_comparison(compared, path)
    _print_line(console, f"every value, beside the committed one: {path}")


def leave_reports(report: RunReport, compared: Sequence[Compared], console: Console, folder: Path) -> None:
    """Write `report.json` and `report.html` into `folder`, and name them."""
    write_record(report, folder / "report.json")
    write_page(report, sums(compared), folder / "report.html")
    _print_line(console, f"each figure, beside the committed one: {folder / 'report.html'}; for programs: report.json")


def sums(compared: Sequence[Compared]) -> str:
    """One line, such as "812 values inside their interval, 9 different (named below), 264 times or memory, ..."."""
    counts = Counter(row.verdict for row in compared)
    parts = [f"{counts[verdict]} {text}" for verdict, text in SUMS.items() if counts[verdict]]
    return ", ".join(parts) or "no values"


def _print_line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
