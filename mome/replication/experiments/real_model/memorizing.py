"""Runs that memorize answers with LoRA or with memory experts, as rows of a table: `mome table memorizing` measures it.

Notebooks 01 and 06 read the rows of a real language model, whose runs take minutes. Each row is one run, its curve of
losses included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy
import pandas

from mome.facts.fact import Fact
from mome.replication.experiments.abilities import recall
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.memorized import MomeMemorized, memorize_mome
from mome.replication.experiments.plan import Memorized, Recipe
from mome.replication.experiments.pools import select_facts, tuning_pool, with_answers
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.tables import rows_of
from mome.train.settings import LoraSettings, TuningSettings

METHODS = ("lora", "mome")
NEAR_ZERO = 0.05  # nats/token: what we take for the "near zero" of the paper's figure 1
LEAST_NAMES = 0.8  # of the check of names in the method "mome_names"; chosen on development seeds (LOG.md)
STOP_LOSS = 0.01  # nats/token: where a LoRA run ends; the rest of its curve would be flat


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: `facts` facts of `dataset` with `answers` ("real", "random", "shuffled"), memorized by `method`."""

    backbone: str
    dataset: str
    facts: int
    answers: str
    method: str
    learning_rate: float
    seed: int


KEY = list(Cell.__dataclass_fields__)
TEXTS = ("curve", "recalled", "summed", "last")


def cells(
    backbone: str,
    datasets: Sequence[str],
    facts: Sequence[int],
    answers: Sequence[str],
    methods: Sequence[str],
    rates: Sequence[float],
    seeds: Iterable[int],
) -> list[Cell]:
    """All combinations, seed by seed, so that a table that is cut short has whole seeds."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(METHODS)}")
    order = product(seeds, datasets, facts, methods, rates, answers)
    return [Cell(backbone, data, count, kind, name, rate, seed) for seed, data, count, name, rate, kind in order]


def table_rows(found: Path | None, wanted: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """The row of each wanted cell that the table `found` does not have, as soon as it is measured."""
    measured = rows_of(found, KEY)
    for cell in wanted:
        if tuple(asdict(cell).values()) not in measured:
            yield run_row(cell)


def run_row(cell: Cell) -> dict[str, Any]:
    """Run one cell, or take what an earlier run left in the work folder, and describe it.

    `recalled` has a digit for each fact, 1 where free greedy generation gives its answer exactly; `guess_rate` is the
    share of the facts that the untouched backbone answered rightly. `seconds` is the time of training alone;
    `seconds_to_0.05` the part of it up to the epoch whose mean loss is below 0.05 nats/token. `curve` has the mean loss
    of each epoch, `summed` and `last` each fact's sum over the epochs and its last value (nats/token).
    """
    chosen, guess_rate = cell_facts(cell)
    done = memorize_cell(cell, chosen)
    epochs, reached = len(done.run.curve), done.run.epochs_to(NEAR_ZERO)
    outcomes = recall(done)
    return {
        **asdict(cell),
        "epochs": epochs,
        "epochs_to_0.05": reached,
        "final_loss": float(done.run.curve[-1]),
        "guess_rate": guess_rate,
        "recall": sum(outcomes) / len(outcomes),
        "recalled": "".join(str(int(right)) for right in outcomes),
        "seconds": done.run.seconds,
        "seconds_to_0.05": done.run.seconds * reached / epochs if reached else None,
        "router_seconds": done.report.seconds if isinstance(done, MomeMemorized) else None,
        "curve": _text(done.run.curve),
        "summed": _text(done.run.losses.sum(axis=0)),
        "last": _text(done.run.losses[-1]),
    }


def cell_facts(cell: Cell) -> tuple[list[Fact], float]:
    """The facts of a cell with its kind of answers, and the share that the untouched backbone answers rightly."""
    chosen = select_facts(asked_backbone(cell.backbone), tuning_pool(cell.dataset), cell.facts, cell.seed)
    return with_answers(chosen.facts, cell.answers, cell.seed), chosen.guess_rate


def memorize_cell(cell: Cell, facts: Sequence[Fact]) -> Memorized:
    """The run of a cell on its `facts`, kept in the work folder."""
    if cell.method == "lora":
        return memorize(cell.backbone, facts, lora_tuning(cell), LoraSettings())
    changes = {"learning_rate": cell.learning_rate, "seed": cell.seed}
    checked = {"least_names": LEAST_NAMES} if cell.method == "mome_names" else {}
    recipe = Recipe().but(mome=checked, router={"seed": cell.seed}, memory=changes)
    return memorize_mome(cell.backbone, facts, recipe, [])


def lora_tuning(cell: Cell) -> TuningSettings:
    """How a cell of the method "lora" is tuned; the adapter is that of `LoraSettings`, as the paper's appendix A."""
    return TuningSettings(learning_rate=cell.learning_rate, stop_loss=STOP_LOSS, seed=cell.seed)


def _text(losses: Iterable[float]) -> str:
    return " ".join(f"{loss:.5g}" for loss in losses)


def numbers(text: str) -> numpy.ndarray:
    """The losses (nats/token) that a text column of the table holds."""
    return numpy.array(text.split(), dtype=float)


def curves(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of `runs` with one row for each epoch: the columns of `Cell`, `epoch` and `loss` (nats/token)."""
    parts = []
    for _, row in runs.iterrows():
        losses = numbers(row["curve"])
        labels = {name: row[name] for name in KEY}
        parts.append(pandas.DataFrame(labels | {"epoch": range(1, len(losses) + 1), "loss": losses}))
    return pandas.concat(parts, ignore_index=True)


def mean_losses(row: Mapping[Any, Any], epochs: int) -> numpy.ndarray:
    """Each fact's mean loss [facts] over `epochs` epochs (nats/token): after a run's end its last loss stays."""
    more = epochs - int(row["epochs"])
    return (numbers(row["summed"]) + more * numbers(row["last"])) / epochs
