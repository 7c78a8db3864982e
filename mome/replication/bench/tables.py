"""Tables of benchmarks: the names in them, the machine they come from, where they are kept."""

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas
import torch
from tqdm.auto import tqdm

from mome.files.atomic import write_atomically
from mome.files.environment import current_environment, repository_root, work_folder

EXPERTS, GATHERED = "mome ops", "gather + bmm in torch"
FLAT, PRODUCT, TORCH = "topk_flat", "topk_product_key", "torch.topk(q @ K.T)"
MEMORY, LORA, BARE = "memory experts", "PEFT LoRA r=32", "bare backbone"
TUNING, PREFILL, TOKEN = "tuning", "prefill", "token"
OUT_OF_MEMORY = "out of memory"
MACHINE = ("cpu", "accelerator", "python", "torch", "triton", "threads", "commit", "dirty")


def medians(table: pandas.DataFrame, by: Sequence[str]) -> pandas.DataFrame:
    """Columns `by`, then median, p20 and p80 of `ms`, and n."""
    grouped_by = table.groupby(list(by), sort=False)["ms"]
    found = {"median": grouped_by.median(), "p20": grouped_by.quantile(0.2), "p80": grouped_by.quantile(0.8)}
    return pandas.DataFrame({**found, "n": grouped_by.size()}).reset_index()


def times(table: pandas.DataFrame, rounds: Sequence[str], **labels: Any) -> pandas.Series:
    """`ms` of the rows that have these labels, by round (the columns `rounds`)."""
    chosen = table
    for column, value in labels.items():
        chosen = chosen[chosen[column] == value]
    return chosen.set_index(list(rounds))["ms"].sort_index()


def unmeasured(labels: dict[str, Any], note: str) -> dict[str, Any]:
    """A row without a time, which says why there is none."""
    tqdm.write(f"not measured, {note}: {', '.join(str(value) for value in labels.values())}")
    return {**labels, "note": note}


def machine() -> dict[str, Any]:
    """Hardware, versions, threads and code version: the columns `MACHINE` of every table."""
    environment = current_environment()
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "not installed"
    hardware = environment.hardware
    values = (hardware.cpu, hardware.accelerator, environment.python, torch.__version__, triton, environment.threads)
    return dict(zip(MACHINE, (*values, environment.commit, environment.dirty), strict=True))


def results_folder() -> Path:
    """Where the committed tables lie."""
    return repository_root() / "data" / "results" / "bench"


def fresh_folder() -> Path:
    """Where `mome bench` writes its tables: bench/ in the work folder, which git ignores."""
    return work_folder() / "bench"


def commit_table(name: str) -> None:
    """Replace the committed table `name` by the fresh one, in one act."""
    file = f"{name}.csv"
    write_atomically(results_folder() / file, (fresh_folder() / file).read_bytes())


def write_table(name: str, rows: Iterable[dict[str, Any]], copy_rate: float | None = None) -> str:
    """Write `name`.csv to `fresh_folder()`, the machine in every row; returns the table as text, without it."""
    rows = list(rows)
    table = pandas.DataFrame(rows)
    for column in table:
        if all(isinstance(row[column], int) for row in rows if column in row):
            table[column] = table[column].astype("Int64")  # a count, also beside rows that lack it
    if copy_rate is not None:
        table["copy_gb_s"] = copy_rate / 1e9
    for column in table.select_dtypes("floating"):
        table[column] = table[column].map(lambda value: float(f"{value:.5g}"))
    path = fresh_folder() / f"{name}.csv"
    write_atomically(path, table.assign(**machine()).to_csv(index=False))
    return f"{path.name}\n{table.to_string(index=False)}"
