"""The figure of notebook 12, and the committed benchmark tables that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.bench.tables import EXPERTS, FLAT, PRODUCT
from mome.replication.notebook.style import BLACK, BLUE, GREEN, LIGHT_GREY, ORANGE, PINK, RED, SKY, STYLE, finished

NAMES = ("module_step", "lookup", "end_to_end")
# Okabe and Ito's palette; ours first
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, LIGHT_GREY, BLACK)

Tables = dict[str, dict[str, pandas.DataFrame]]


def read_tables(folder: Path) -> Tables:
    """The benchmark tables by device, "CPU" and, where it was measured, "GPU", and by name (`NAMES`).

    Raises:
        FileNotFoundError: there are no tables of a CPU; `make bench` makes them.
    """
    tables = {"CPU": {name: pandas.read_csv(folder / f"cpu_{name}.csv") for name in NAMES}}
    if all((folder / f"gpu_{name}.csv").is_file() for name in NAMES):
        tables["GPU"] = {name: pandas.read_csv(folder / f"gpu_{name}.csv") for name in NAMES}
    return tables


def timed(table: pandas.DataFrame, **labels: Any) -> float:
    """The median time (microseconds) of the row that has these labels; on a GPU, started on an idle device."""
    return float(_rows(table, **labels)["median_us"].iloc[0])


def kernels(tables: Tables) -> Figure:
    """A row of panels for each device: time over bytes, a training step over N, a lookup for one question over N."""
    with pyplot.rc_context(STYLE):
        figure, rows = pyplot.subplots(len(tables), 3, figsize=(13, 3.9 * len(tables)), squeeze=False)
        for (device, found), (left, middle, right) in zip(tables.items(), rows, strict=True):
            _over_bytes(left, found)
            _over_experts(
                middle, _rows(found["module_step"], base="frozen linear"), "training step of one linear module"
            )
            _over_experts(right, _rows(found["lookup"], queries=1), "lookup of 32 experts, one question")
            note = "" if "GPU" in tables else " (not measured on a GPU yet)"
            left.set_title(f"{device}{note}")
    return finished(figure)


def _rows(table: pandas.DataFrame, **labels: Any) -> pandas.DataFrame:
    """The rows that were measured and have these labels; where there is a mode of starting, the eager ones."""
    for column, value in labels.items():
        table = table[table[column] == value]
    table = table[table["median_us"].notna()]
    return table[table["mode"] == "eager"] if "mode" in table else table


def _over_bytes(axis: Axes, found: dict[str, pandas.DataFrame]) -> None:
    for name, marker in (("module_step", "o"), ("lookup", "s")):
        table = _rows(found[name])
        ours = table["contender"].isin((EXPERTS, FLAT, PRODUCT))
        for part, colour, label in ((table[ours], COLOURS[0], "ours"), (table[~ours], COLOURS[6], "others")):
            axis.plot(part["bytes"] / 1e6, part["median_us"], marker, color=colour, markersize=4, alpha=0.8)
            axis.plot([], [], marker, color=colour, label=f"{name.replace('_', ' ')}, {label}")
    rate = float(found["lookup"]["copy_gb_s"].iloc[0])
    ends = numpy.array(axis.get_xlim()).clip(1e-2)
    axis.plot(ends, ends * 1e3 / rate, "k--", linewidth=1, label=f"a copy: {rate:.3g} GB/s")
    axis.set(xscale="log", yscale="log", xlabel="bytes that must move (MB)", ylabel="median time (µs)")
    axis.legend(fontsize=7)


def _over_experts(axis: Axes, table: pandas.DataFrame, what: str) -> None:
    groups = table.assign(label=_labels(table)).groupby("label", sort=False)
    for colour, (label, part) in zip(COLOURS * 2, groups, strict=False):
        part = part.sort_values("experts")
        spread = [part["median_us"] - part["p20_us"], part["p80_us"] - part["median_us"]]
        axis.errorbar(
            part["experts"], part["median_us"], yerr=spread, marker="o", markersize=3, color=colour, label=label
        )
    axis.set(
        xscale="log", yscale="log", xlabel="number of experts N", ylabel="median time (µs), bar: p20 to p80", title=what
    )
    axis.legend(fontsize=6.5)


def _labels(table: pandas.DataFrame) -> pandas.Series:
    if "optimizer" not in table:
        return table["contender"]
    return table["contender"] + ", " + table["optimizer"].fillna("")
