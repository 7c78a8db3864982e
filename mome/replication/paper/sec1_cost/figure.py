"""The figure of cost: the paper's numbers against derived ones, our own bill, and memory experts beyond what we ran."""

from __future__ import annotations

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.style import BLACK, BLUE, GREEN, ORANGE, RED, STYLE, finished, seed_count, span
from mome.replication.paper.sec1_cost.audit import AGREE
from mome.replication.paper.sec1_cost.cost import CORES, INPUTS
from mome.replication.paper.sec1_cost.forecast import Forecast

METHODS = {
    "full": (RED, "^", "full\nfine-tuning"),
    "lora": (ORANGE, "s", "LoRA,\nrank 32"),
    "mome": (BLUE, "o", "memory\nexperts"),
    "router": (GREEN, "D", "router,\nonce"),
}


def bills(
    audit: pandas.DataFrame,
    bill: pandas.DataFrame,
    facts: int,
    measured: pandas.DataFrame,
    forecasts: dict[str, Forecast],
    far: float,
    marks: dict[str, float],
) -> Figure:
    """Three panels: printed over derived for each line of `audit`; energy of one bill; FLOPs against facts.

    `bill`, of so many `facts`, has a row a method with kilojoules, low, high, recall and seeds (their number).
    `measured` has a row a run with facts, seed and one column of FLOPs for each name in `forecasts`, which reach to
    `far` facts; `marks` names FLOPs that are drawn as the paper's.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, 3, figsize=(13.5, 4.6), width_ratios=(1.5, 0.95, 1.1))
        _audit(axes[0], audit)
        _energy(axes[1], bill, facts)
        _extrapolation(axes[2], measured, forecasts, far, marks)
    return finished(figure)


def _audit(axis: Axes, audit: pandas.DataFrame) -> None:
    places = range(len(audit))
    for own, (colour, mark, fill, title) in {
        True: (BLUE, "o", BLUE, "from the paper's own numbers"),
        False: (ORANGE, "D", "none", "from another assumption"),
    }.items():
        chosen = [place for place in places if audit["own"].iloc[place] == own]
        axis.plot(audit["ratio"].iloc[chosen], chosen, mark, color=colour, mfc=fill, markersize=6, label=title)
    for place, ratio in zip(places, audit["ratio"], strict=True):
        axis.annotate(
            f"{ratio:.3g}", (ratio, place), xytext=(8, 0), textcoords="offset points", va="center", fontsize=7
        )
    axis.axvspan(1 / AGREE, AGREE, color=BLACK, alpha=0.08, linewidth=0)
    axis.axvline(1, color=BLACK, linestyle="--", linewidth=1, label="as the paper prints")
    labels = [f"{name}: {origin}" for name, origin in zip(audit["quantity"], audit["from"], strict=True)]
    axis.set_yticks(places, labels, fontsize=7)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(1e-4, 1e8)
    axis.set_xlabel("printed / derived")
    axis.set_title("the paper's figures, derived again")
    axis.legend(fontsize=7, loc="lower right", frameon=True, edgecolor="0.8")


def _note(axis: Axes, text: str, place: tuple[float, float], shift: tuple[int, int]) -> None:
    axis.annotate(text, place, xytext=shift, textcoords="offset points", va="center", fontsize=7)


def _energy(axis: Axes, bill: pandas.DataFrame, facts: int) -> None:
    for place, (method, row) in enumerate(bill.iterrows()):
        colour, mark, _ = METHODS[str(method)]
        value = row["kilojoules"]
        spread = [[value - row["low"]], [row["high"] - value]]
        axis.errorbar([place], [value], spread, color=colour, marker=mark, capsize=3)
        _note(axis, f"{value:.2g}", (place, value), (7, 0))
    named = [
        f"{METHODS[str(method)][2]}\n{seed_count([seeds])}{_recalled(recall)}"
        for method, recall, seeds in zip(bill.index, bill["recall"], bill["seeds"], strict=True)
    ]
    axis.set_xticks(range(len(bill)), named, fontsize=7)
    axis.set_yscale("log")
    axis.margins(x=0.2)
    axis.set_ylabel("estimated energy (kJ)")
    watts = " to ".join(f"{INPUTS[name].value.to('watt').magnitude:g}" for name in CORES[1:])
    axis.set_title(f"our bill, {facts:,} random answers\n(bars: {watts} W a core)")


def _recalled(recall: float) -> str:
    return "" if numpy.isnan(recall) else f"\nrecall\n{recall:.1%}"


def _extrapolation(
    axis: Axes, measured: pandas.DataFrame, forecasts: dict[str, Forecast], far: float, marks: dict[str, float]
) -> None:
    reach = numpy.logspace(numpy.log10(measured["facts"].min()), numpy.log10(far), 60)
    for colour, mark, shift, (name, fitted) in zip((BLUE, RED), "os", (-32, 8), forecasts.items(), strict=False):
        value, low, high = fitted.at(reach)
        axis.plot(measured["facts"], measured[name], mark, color=colour, markersize=4)
        axis.plot(reach, value, color=colour, linewidth=1.2, label=f"{name}, slope {fitted.slope:.2f}")
        axis.fill_between(reach, low, high, color=colour, alpha=0.25, linewidth=0)
        end = [[value[-1] - low[-1]], [high[-1] - value[-1]]]
        axis.errorbar([reach[-1]], [value[-1]], end, color=colour, marker=mark, mfc="white", markersize=5, capsize=3)
        _note(axis, f"{value[-1]:.1e}", (reach[-1], value[-1]), (-36, shift))
    for name, flops in marks.items():
        axis.axhline(flops, color=BLACK, linestyle="--", linewidth=1)
        _note(axis, name, (reach[0], flops), (2, 6))
    axis.axvline(far, color=BLACK, linestyle=":", linewidth=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("facts")
    axis.set_ylabel("FLOPs to memorize them")
    behind = f"{span([len(measured)])} runs, {seed_count([measured['seed'].nunique()])}"
    axis.set_title(f"memory experts, {behind}\nextrapolated (bands, bars: 95%)")
    axis.legend(fontsize=7, loc="lower right")
