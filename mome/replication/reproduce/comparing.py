"""Fresh values compared with the committed ones: inside their interval or different, with the reason if known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mome.files.atomic import write_atomically
from mome.replication.notebook.results import COMMITTED_PROFILES, Metric, Result, read_result, result_path
from mome.replication.reproduce.plans import NotebookPlan

Verdict = Literal["inside", "different", "timed", "not committed", "not measured"]


@dataclass(frozen=True)
class Compared:
    """One metric of a fresh result beside the committed one; what one of the two does not have is None.

    `low` and `high` are the ends of the committed 95% interval. That is the interval of a mean over the committed runs:
    a single run lies outside more often than one time in twenty. "timed" values are never judged.
    """

    notebook: str
    metric: str
    unit: str
    fresh: float | None
    committed: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    reason: str = ""

    def __str__(self) -> str:
        """One line of a value that both results have, with as many digits as tell the two apart."""
        digits = next((count for count in (4, 6) if f"{self.fresh:.{count}g}" != f"{self.committed:.{count}g}"), 8)
        interval = "" if self.low is None else f" ({self.low:.{digits}g} to {self.high:.{digits}g})"
        values = f"{self.fresh:.{digits}g}, committed {self.committed:.{digits}g}{interval}"
        return f"{self.notebook} {self.metric}: {values}: {self.reason}"


def compared_with_committed(plan: NotebookPlan) -> list[Compared]:
    """The accepted run's values beside the committed ones. Raises ResultError for a file that is not valid."""
    committed = result_path(plan.profile, plan.stem)
    there = plan.profile in COMMITTED_PROFILES and committed.is_file()
    return compare(read_result(plan.destination.json), read_result(committed) if there else None)


def compare(fresh: Result, committed: Result | None) -> list[Compared]:
    """One row for each metric of either result, in the order of their names."""
    kept = committed.metrics if committed else {}
    reason = why_different(fresh, committed) if committed else ""
    names = sorted({*fresh.metrics, *kept})
    return [_row(fresh.notebook, name, fresh.metrics.get(name), kept.get(name), reason) for name in names]


def _row(notebook: str, name: str, fresh: Metric | None, committed: Metric | None, reason: str) -> Compared:
    low, high = committed.ci95 if committed and committed.ci95 else (None, None)
    verdict = _verdict(fresh, committed)
    return Compared(
        notebook=notebook,
        metric=name,
        unit=next(metric.unit for metric in (fresh, committed) if metric),
        fresh=fresh.value if fresh else None,
        committed=committed.value if committed else None,
        low=low,
        high=high,
        verdict=verdict,
        reason=reason if verdict == "different" else "",
    )


def _verdict(fresh: Metric | None, committed: Metric | None) -> Verdict:
    if fresh is None:
        return "not measured"
    if fresh.timed or (committed is not None and committed.timed):
        return "timed"
    if committed is None:
        return "not committed"
    return "inside" if committed.covers(fresh.value) else "different"


def why_different(fresh: Result, committed: Result) -> str:
    """The likeliest known reason: fewer runs, other settings, another machine, other packages or code.

    A setting that only one of them has came or went between them, and its default is what was done without it.
    """
    apart = fewer(fresh.config, committed.config)
    names = sorted((fresh.config.keys() & committed.config.keys()) - {each for each in ("seeds", "backbones") if apart})
    others = [name for name in names if fresh.config.get(name) != committed.config.get(name)]
    settings = [f"other {', '.join(others)}"] if others else []
    return ", ".join(apart + settings) or _other_place(fresh, committed) or "no reason is known"


def _other_place(fresh: Result, committed: Result) -> str:
    ours, theirs = fresh.environment, committed.environment
    pairs: dict[str, tuple[object, object]] = {
        "processor": (ours.hardware.cpu, theirs.hardware.cpu),
        "accelerator": (ours.hardware.accelerator, theirs.hardware.accelerator),
        "number of threads": (ours.threads, theirs.threads),
        "torch": (ours.torch, theirs.torch),
        "transformers": (ours.transformers, theirs.transformers),
    }
    apart = [name for name, (new, old) in pairs.items() if new != old]
    if not apart and (ours.commit, ours.dirty) != (theirs.commit, theirs.dirty):
        return f"other code than {theirs.commit[:7]}"
    return f"other {', '.join(apart)}" if apart else ""


def fewer(new: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """The seeds and backbones that config `new` lacks of those in config `kept`, such as "1 of 3 seeds"."""
    counts = {name: (len(set(new[name])), len(set(kept[name]))) for name in ("seeds", "backbones")}
    return [f"{ours} of {theirs} {name}" for name, (ours, theirs) in counts.items() if ours < theirs]


def write_comparison(rows: Iterable[Compared], path: Path) -> None:
    """Write every row as CSV, all or nothing; the header names the fields of `Compared`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(Compared)])
    table.writerows(astuple(row) for row in rows)
    write_atomically(path, text.getvalue())
