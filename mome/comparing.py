"""The last screen of `mome reproduce`: the runs, and each fresh value beside the committed one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mome.plans import Outcome
from mome.results import Result, read_result, result_path


def report(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print one line a notebook, then the fresh values beside the committed ones, then what failed and how."""
    table = Table("notebook", "status", "seconds", "metrics", title="runs")
    for outcome in outcomes:
        metrics = "" if outcome.status == "failed" else str(len(read_result(outcome.plan.destination.json).metrics))
        table.add_row(outcome.plan.stem, outcome.status, f"{outcome.seconds:.1f}", metrics)
    console.print(table)
    for outcome in outcomes:
        if outcome.status != "failed" and outcome.plan.destination.fresh:
            kept = read_result(result_path(outcome.plan.profile, outcome.plan.stem))
            _compare(read_result(outcome.plan.destination.json), kept, console)
    for outcome in outcomes:
        if outcome.status == "failed":
            console.print(f"FAILED {outcome.plan.stem}", style="bold red", markup=False)
            console.print(Text.from_ansi(outcome.error), soft_wrap=True)


def _compare(fresh: Result, kept: Result, console: Console) -> None:
    """Each fresh metric beside the kept one: inside its 95% interval, or different; unlike settings are named.

    The interval is that of a mean over runs: a single run lies outside more often than one time in twenty.
    """
    table = Table(title=f"{fresh.notebook}: fresh against kept")
    for title in ("metric", "fresh", "kept", "95% interval of the kept mean", ""):
        table.add_column(title, overflow="fold")
    for name in sorted(fresh.metrics):
        table.add_row(name, *_compared(fresh, kept, name))
    console.print(table)
    missing = len(kept.metrics.keys() - fresh.metrics.keys())
    console.print(f"kept metrics that this smaller run does not measure: {missing}", markup=False, highlight=False)
    unlike = [
        f"{name} {fresh.config.get(name)} (kept: {kept.config.get(name)})"
        for name in sorted({*fresh.config, *kept.config})
        if fresh.config.get(name) != kept.config.get(name)
    ]
    console.print(f"settings that differ: {', '.join(unlike)}", markup=False, highlight=False, soft_wrap=True)


def _compared(fresh: Result, kept: Result, name: str) -> tuple[str, str, str, str]:
    value = fresh.metrics[name].value
    if name not in kept.metrics:
        return f"{value:.4g}", "", "", "not kept"
    old = kept.metrics[name]
    interval = "" if old.ci95 is None else f"{old.ci95[0]:.4g} to {old.ci95[1]:.4g}"
    return f"{value:.4g}", f"{old.value:.4g}", interval, "inside" if old.covers(value) else "DIFFERENT"
