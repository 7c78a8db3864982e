"""From a table of methods to metrics with intervals, and where one method beats another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import pandas

from mome.replication.notebook.results import Metric, metric

# a column: its metric, its unit, and the column that says of how many questions it is a share
SHARES = {
    "recall": ("recall", "asked_n"),
    "paraphrase_recall": ("paraphrase_recall", "asked_n"),
    "paraphrase_wrong": ("paraphrase_wrong", "asked_n"),
    "hallucination": ("unanswerable_hallucination", "absent_n"),
    "general_accuracy": ("general_accuracy", "general_n"),
}
COSTS = {
    "latency_p50_ms": ("latency_p50_ms", "ms"),
    "latency_p95_ms": ("latency_p95_ms", "ms"),
    "build_cpu_seconds": ("build_cpu_seconds", "s"),
    "once_seconds": ("once_seconds", "s"),
    "bytes_per_fact": ("bytes_per_fact", "B"),
}
HIGHER_IS_BETTER = ("recall", "paraphrase_recall", "general_accuracy")


def table_metrics(table: pandas.DataFrame, named: int) -> dict[str, Metric]:
    """`<metric>_<method>` for `named` facts, `<metric>_<method>_<facts>` for other numbers, over all runs.

    Shares are of questions, so their intervals are drawn from runs and questions (`mome.lm.statistics.interval`).
    """
    found: dict[str, Metric] = {}
    with_bytes = table.assign(bytes_per_fact=table["bytes"] / table["facts"])
    for (facts, method), rows in with_bytes.groupby(["facts", "method"], sort=False):
        suffix = str(method) if facts == named else f"{method}_{facts}"
        for column, (name, count) in SHARES.items():
            runs = [answers(share, int(n)) for share, n in zip(rows[column], rows[count], strict=True)]
            found[f"{name}_{suffix}"] = metric(runs, "share")
        for column, (name, unit) in COSTS.items():
            found[f"{name}_{suffix}"] = metric([[float(value)] for value in rows[column]], unit)
    return found


def answers(share: float, count: int) -> list[float]:
    """The `count` zeros and ones of which `share` is the mean.

    Raises:
        ValueError: no number of ones has this share.
    """
    ones = round(share * count)
    if abs(ones - share * count) > 1e-3:
        raise ValueError(f"{share} is no share of {count} answers")
    return [1.0] * ones + [0.0] * (count - ones)


def compare(metrics: Mapping[str, Metric], method: str, rivals: Sequence[str]) -> pandas.DataFrame:
    """Against each rival, a row for each measure: "better", "worse", or "alike" if the 95% intervals overlap.

    A metric without an interval (a single run) counts as its value. Times get no such word: they depend on what else
    the machine did.
    """
    names = [name for name, _ in (*SHARES.values(), *COSTS.values())]
    rows = []
    for name in names:
        row = {"measure": name, method: _shown(metrics[f"{name}_{method}"])}
        for rival in rivals:
            own, other = metrics[f"{name}_{method}"], metrics[f"{name}_{rival}"]
            word = "" if own.timed else f" ({_verdict(own, other, name in HIGHER_IS_BETTER)})"
            row[rival] = _shown(other) + word
        rows.append(row)
    return pandas.DataFrame(rows)


def _verdict(own: Metric, other: Metric, higher: bool) -> str:
    (low, high), (other_low, other_high) = own.bounds, other.bounds
    if low > other_high or high < other_low:
        return "better" if (own.value > other.value) == higher else "worse"
    return "alike"


def _shown(found: Metric) -> str:
    return f"{found.value:.1%}" if found.unit == "share" else f"{numpy.format_float_positional(found.value, 3)}"
