"""From the tables of scale to named metrics of a result. A number of experts in a name is the number itself."""

from __future__ import annotations

import pandas

from mome.replication.bench.steps import ALL_LINEAR, MOME, SAME_MODULES, SAME_ROWS
from mome.replication.bench.tables import times
from mome.replication.notebook.results import Metric, median_metric, metric
from mome.replication.paper.sec7_scaling.footprint import IN_MEMORY, MAPPED

ROUND = ["pass", "batch"]
MEASURES = {
    "recall": ("recall", "share"),
    "general_loss_drift": ("drift", "nats/token"),
    "general_loss_drift_plain": ("drift_plain", "nats/token"),
    "general_accuracy": ("general_accuracy", "share"),
    "shared_rows": ("shared", "share"),
    "visits": ("visits", "visits"),
    "ms_per_fact": ("ms_per_fact", "ms"),
    "bits_per_parameter_bank": ("bits_per_parameter", "bits"),
    "bits_per_parameter_touched": ("bits_per_touched_parameter", "bits"),
}


UNITS = {"flops": "flop", "bytes": "B"}


def short(count: int) -> str:
    """1,024 is 1k, 1,048,576 is 1M."""
    return f"{count // 2**20}M" if count >= 2**20 else f"{count // 2**10}k" if count >= 2**10 else str(count)


def step_metrics(raw: pandas.DataFrame) -> dict[str, Metric]:
    """Of a `time_steps` table: counted work, medians for each number of experts, first touch apart, ratios in rounds.

    The names of Adam's have no suffix, those of another optimizer end in its name.
    """
    found: dict[str, Metric] = {}
    for optimizer in raw["optimizer"].unique():
        of_kind = raw[raw["optimizer"] == optimizer]
        end = "" if optimizer == "adam" else f"_{optimizer}"
        named = _step_times(of_kind) | _step_ratios(of_kind[of_kind["pass"] > 0]) | _step_work(of_kind)
        found |= {f"{name}{end}": value for name, value in named.items()}
    return found


def _step_times(raw: pandas.DataFrame) -> dict[str, Metric]:
    found = {}
    for (method, experts), part in raw.groupby(["method", "experts"]):
        if method != SAME_ROWS:
            name = f"step_ms_{experts}" if method == MOME else f"step_ms_{method.replace(' ', '_')}"
            found[name] = median_metric(part.loc[part["pass"] > 0, "ms"], "ms")
        if method == MOME:
            found[f"first_touch_{name}"] = median_metric(part.loc[part["pass"] == 0, "ms"], "ms")
            found[f"rows_a_step_{experts}"] = metric([[float(part["rows"].mean())]], "rows")
    return found


def _step_ratios(steady: pandas.DataFrame) -> dict[str, Metric]:
    sizes = steady.loc[steady["method"] == MOME, "experts"]
    least, most = int(sizes.min()), int(sizes.max())
    large, small = (times(steady, ROUND, method=MOME, experts=count) for count in (most, least))
    name = f"step_ratio_{short(most)}_{short(least)}"
    ratios = {name: large / small}
    if most > least:
        ratios[f"{name}_same_rows"] = times(steady, ROUND, method=SAME_ROWS) / small
    for method in (SAME_MODULES, ALL_LINEAR):
        ratios[f"step_over_{method.replace(' ', '_')}"] = large / times(steady, ROUND, method=method)
    return {title: median_metric(values, "ratio of times") for title, values in ratios.items()}


def _step_work(table: pandas.DataFrame) -> dict[str, Metric]:
    """The counted FLOPs and bytes of a step; of the largest over the smallest bank, bytes where it has as many rows."""
    work = table.groupby(["method", "experts"])[["flops", "bytes"]].first()
    own = work.loc[MOME]
    found = {f"step_{name}_{count}": (own.loc[count, name], UNITS[name]) for count in own.index for name in own}
    least, most = own.index.min(), own.index.max()
    alike = work.loc[(SAME_ROWS, most)] if most > least else own.loc[most]
    sizes = f"{short(most)}_{short(least)}"
    found[f"step_flops_ratio_{sizes}"] = (own.loc[most, "flops"] / own.loc[least, "flops"], "ratio")
    found[f"step_bytes_ratio_{sizes}_same_rows"] = (alike["bytes"] / own.loc[least, "bytes"], "ratio")
    return {name: metric([[float(value)]], unit) for name, (value, unit) in found.items()}


def lookup_metrics(looked: pandas.DataFrame) -> dict[str, Metric]:
    """Of a `time_lookups` table: the median for each index and number of experts."""
    return {
        f"lookup_ms_{index.replace('.', '_')}_{experts}": median_metric(part["ms"], "ms")
        for (index, experts), part in looked.groupby(["index", "experts"])
    }


def work_metrics(work: dict[int, dict[str, int]], token: int) -> dict[str, Metric]:
    """Of `mome.replication.counting.work.lookup_work`, beside the FLOPs of one token."""
    found = {f"lookup_flops_{index}_{count}": flops for count, kinds in work.items() for index, flops in kinds.items()}
    return {name: metric([[float(flops)]], "flop") for name, flops in {**found, "token_flops": token}.items()}


def memory_metrics(memory: pandas.DataFrame, per_row: dict[str, float]) -> dict[str, Metric]:
    """Of a `memory_table` at the largest number of experts, and `optimizer_bytes`.

    `peak_memory_over_bank` is the peak over the backbone as a share of the rows of the whole bank;
    `peak_memory_over_touched` of the touched rows with their optimizer state, as is `mapped_files_over_touched`.
    """
    most = memory[memory["experts"] == memory["experts"].max()]
    held, mapped = (most[most["storage"] == storage].iloc[0] for storage in (IN_MEMORY, MAPPED))
    ratios = {
        "peak_memory_over_bank": held["over"] / held["virtual"],
        "peak_memory_over_touched": held["over"] / (held["row_bytes"] + held["optimizer_bytes"]),
        "mapped_files_over_touched": mapped["on_disk"] / (mapped["row_bytes"] + mapped["optimizer_bytes"]),
    }
    found = {name: metric([[float(value)]], "ratio of memory") for name, value in ratios.items()}
    for case in memory[memory["storage"] == IN_MEMORY].to_dict("records"):
        found[f"peak_memory_mib_{case['experts']}"] = metric([[case["over"] / 2**20]], "MiB")
    return found | {
        f"optimizer_bytes_per_row_module_{name}": metric([[size]], "bytes") for name, size in per_row.items()
    }


def point_metrics(points: pandas.DataFrame) -> dict[str, Metric]:
    """Of a `memorize_points` table: name_{facts}_{experts}, means over runs with bootstrap intervals."""
    points = with_ratios(points)
    found = {}
    for (facts, experts), part in points.groupby(["facts", "experts"]):
        for name, (column, unit) in MEASURES.items():
            found[f"{name}_{facts}_{experts}"] = metric([[float(value)] for value in part[column]], unit)
    return found


def capacity_metrics(small: pandas.DataFrame) -> dict[str, Metric]:
    """Of a `memorize_points` table of small banks: the most bits and facts that one parameter held, by answer length.

    Facts count where they are recalled exactly. `facts_per_parameter_tried` are those of the fullest bank, recalled or
    not: no measurement can give more.
    """
    small = with_ratios(small)
    found = {}
    for characters, part in small.groupby("characters"):
        tried = [[float((part["facts"] / part["parameters"]).max())]]
        found[f"facts_per_parameter_tried_{characters}_characters"] = metric(tried, "facts")
        for name, unit in (("bits_per_parameter", "bits"), ("facts_per_parameter", "facts")):
            best = part.groupby(["backbone", "seed"])[name].max()
            found[f"{name}_max_{characters}_characters"] = metric([[float(value)] for value in best], unit)
    return found


def with_ratios(points: pandas.DataFrame) -> pandas.DataFrame:
    """The table with bits and facts for each parameter, and milliseconds for each fact."""
    return points.assign(
        bits_per_parameter=points["bits_stored"] / points["parameters"],
        bits_per_touched_parameter=points["bits_stored"] / points["touched_parameters"],
        facts_per_parameter=points["recall"] * points["facts"] / points["parameters"],
        ms_per_fact=1e3 * points["seconds"] / points["facts"],
    )
