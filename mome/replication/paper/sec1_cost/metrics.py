"""From the tables of cost to metrics: the bill of one number of facts, forecasts, and named values."""

from __future__ import annotations

from collections.abc import Sequence

import pandas

from mome.adapter.config import MomeConfig
from mome.replication.counting.flops import LLAMA_3_8B, linear
from mome.replication.counting.meter import FULL, METHODS, MOME, ROUTER
from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.sec1_cost.cost import ACCELERATORS, Bill, Quantity, bill, core_energy, quantity
from mome.replication.paper.sec1_cost.forecast import Forecast, forecast

COSTS = {"flops": "flop", "flops_8b": "flop", "cpu_seconds": "s"}
BILLED = {"all_cpu_seconds": "s", "all_flops": "flop", "recall": "share", "epochs": "epochs"}
FIELDS = ("flops", "gpu_time", "duration", "power", "energy", "dollars", "carbon", "households")
UTILIZATION, OVERHEAD = 0.45, 4 / 3  # the paper's MFU, and its 350 MW over the GPUs' own 262.5 MW


def billed(table: pandas.DataFrame, facts: int) -> pandas.DataFrame:
    """The rows of one number of facts, and the router's; `all_cpu_seconds` and `all_flops` include the threshold.

    Raises:
        ValueError: the table has no such rows.
    """
    chosen = table[table["facts"].isin([0, facts])]
    if chosen["facts"].max() != facts:
        raise ValueError(f"facts: the table has no bill of {facts}, only of {sorted(set(table['facts']) - {0})}")
    extra = chosen[["fixed_cpu_seconds", "fixed_flops"]].fillna(0)
    cpu, flops = (chosen[name] + extra[f"fixed_{name}"] for name in ("cpu_seconds", "flops"))
    return chosen.assign(all_cpu_seconds=cpu, all_flops=flops)


def mean_bill(rows: pandas.DataFrame) -> pandas.DataFrame:
    """One row a method, in order: means, runs and seeds behind them, kilojoules with the range of a core's power."""
    means = rows.groupby("method")[["epochs", "visits", "recall", "seconds", "all_cpu_seconds", "all_flops"]].mean()
    means = means.reindex([name for name in (*METHODS, ROUTER) if name in means.index])
    energy = [[part.to("kJ").magnitude for part in core_energy(spent)] for spent in means["all_cpu_seconds"]]
    kilojoules = pandas.DataFrame(energy, means.index, ["kilojoules", "low", "high"])
    grouped = rows.groupby("method")
    return pandas.concat([means.assign(runs=grouped.size(), seeds=grouped["seed"].nunique()), kilojoules], axis=1)


def bills_table(runs: dict[str, Bill]) -> pandas.DataFrame:
    """Bills side by side, as text with units."""
    shown = {name: {field: f"{getattr(run, field):.4g~P}" for field in FIELDS} for name, run in runs.items()}
    return pandas.DataFrame(shown)


def forecasts(table: pandas.DataFrame) -> dict[str, Forecast]:
    """For memory experts, the power law of each cost in `COSTS` over the number of facts."""
    points = table[table["method"] == MOME]
    return {name: forecast(points["facts"].tolist(), points[name].tolist()) for name in COSTS}


def forecast_table(laws: dict[str, Forecast], facts: float) -> pandas.DataFrame:
    """One row a cost: its slope and its value at `facts`, each with its 95% interval."""
    rows = {}
    for name, law in laws.items():
        value, low, high = (float(part) for part in law.at(facts))
        slope = {"slope": law.slope, "slope low": law.slope_interval[0], "slope high": law.slope_interval[1]}
        rows[f"{name} ({COSTS[name]})"] = {**slope, f"at {facts:,.0f} facts": value, "low": low, "high": high}
    return pandas.DataFrame(rows).T


def one_hour() -> Quantity:
    """What 8 MI300X compute in an hour at 45% of their peak (the paper's section 1.1): FLOPs."""
    return (quantity(8, "gpu") * ACCELERATORS["mi300x"].peak * UTILIZATION * quantity(1, "hour")).to("flop")


def hours_on_eight(laws: dict[str, Forecast], facts: float) -> tuple[float, float, float]:
    """(hours, low, high) that 8 MI300X take at 45% to memorize `facts` with memory experts on a Llama 3 8B."""
    value, low, high = (float(part) / one_hour().magnitude for part in laws["flops_8b"].at(facts))
    return value, low, high


def far_bill(laws: dict[str, Forecast], facts: float) -> Bill:
    """The bill of `facts` memorized on a Llama 3 8B by 8 MI300X, at 45% and 1 kW a GPU."""
    work = quantity(float(laws["flops_8b"].at(facts)[0]), "flop")
    return bill(work, quantity(8, "gpu"), ACCELERATORS["mi300x"], UTILIZATION, overhead=OVERHEAD)


def far_limits(facts: float) -> dict[str, float]:
    """Limits beside the FLOPs: parameters of a fact's 32 experts on a Llama 3 8B (gate_proj of the upper half).

    And the petabytes of `facts` such facts in bf16 if no two share an expert, and the FLOPs of comparing one question
    with as many anchors of 128 numbers.
    """
    parameters = MomeConfig().top_k * sum(LLAMA_3_8B.projections["gate_proj"]) * (LLAMA_3_8B.layers // 2)
    anchors = linear(1, MomeConfig().key_size, int(facts))
    return {"parameters a fact": parameters, "unshared (PB)": 2 * parameters * facts / 1e15, "anchors (FLOP)": anchors}


def audit_metrics(table: pandas.DataFrame) -> dict[str, Metric]:
    """Of an `audit` table: printed over derived of the paper's own lines."""
    lines = table[table["own"]].to_dict("records")
    names = [f"ratio_{line['quantity'].replace(' ', '_')}" for line in lines]
    return {name: metric([[line["ratio"]]], "ratio") for name, line in zip(names, lines, strict=True)}


def bill_metrics(rows: pandas.DataFrame, facts: int) -> dict[str, Metric]:
    """Of `billed` rows: name_{method}_{facts}, means over runs with bootstrap intervals where there are several.

    `flops_of_epochs_over_first_full` holds the FLOPs of all epochs against those counted in the first, times the number
    of epochs: 1 where every epoch takes as many. It needs rows whose `counted_steps` are those of one epoch.
    """
    found = {}
    for method, part in rows.groupby("method"):
        for name, unit in BILLED.items():
            if part[name].notna().all():
                found[f"{name}_{method}_{facts}"] = metric(_runs(part[name]), unit)
        energy = [core_energy(spent)[0].to("kJ").magnitude for spent in part["all_cpu_seconds"]]
        found[f"kilojoules_{method}_{facts}"] = metric(_runs(energy), "kJ")
    full = rows[rows["method"] == FULL]
    if len(full):
        steady = full["flops"] / (full["epochs"] * full["counted_steps"])
        found[f"flops_of_epochs_over_first_{FULL}"] = metric(_runs(steady), "ratio")
    late = full["late_over_early"].dropna()
    return found | ({f"late_over_early_{FULL}": metric(_runs(late), "ratio of times")} if len(late) else {})


def forecast_metrics(laws: dict[str, Forecast], facts: int) -> dict[str, Metric]:
    """Slopes, costs of `facts`, and the hours of 8 MI300X for a million; intervals are those of the regression."""
    found = {}
    for name, law in laws.items():
        value, low, high = (float(part) for part in law.at(facts))
        power = "power of time" if COSTS[name] == "s" else "power"
        found[f"slope_{name}"] = Metric(value=law.slope, unit=power, n=law.points, ci95=law.slope_interval)
        found[f"{name}_{facts}"] = Metric(value=value, unit=COSTS[name], n=law.points, ci95=(low, high))
    value, low, high = hours_on_eight(laws, 1e6)
    hours = Metric(value=value, unit="h", n=laws["flops_8b"].points, ci95=(low, high))
    return {**found, "hours_8_mi300x_1000000": hours}


def _runs(values: Sequence[float] | pandas.Series) -> list[list[float]]:
    return [[float(value)] for value in values]
