"""What memorizing does to everything else, as rows of a table: `mome table damage` measures it.

Every measure of `mome.replication.damage` is taken of the untouched backbone and of each memorized run, on the same
items. A row is one measure of one run. LoRA is measured a second time behind the rejection threshold of the memory
experts' router ("lora_gated"): a question that the router does not recognize then gets the untouched backbone's answer.
In the methods "mome_names" and "lora_gated_names" the router checks names, too (`memorizing.LEAST_NAMES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas

from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.replication.damage.measure import MEASURES, Tables, measure_all, measured_by
from mome.replication.damage.scope import out_of_scope, recognized
from mome.replication.damage.sets import unrelated_questions
from mome.replication.damage.summary import kept, summarize, values
from mome.replication.experiments.plan import Memorized
from mome.replication.experiments.real_model.memorizing import KEY as CELL_KEY
from mome.replication.experiments.real_model.memorizing import Cell, cell_facts, memorize_cell
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.tables import rows_of

KEY = [*CELL_KEY, "measure"]
METHODS = ("lora", "lora_gated", "lora_gated_names", "mome", "mome_names")
EXPERTS = ("mome", "mome_names")
ROUTED_BY = {"lora_gated": "mome", "lora_gated_names": "mome_names"}  # whose router stands before LoRA
BEFORE = "before"  # stands for the untouched backbone
TEXTS = ("items",)
UNTOUCHED = ("free", "known", "passages", "choices")  # what can be measured of a backbone that memorized nothing


def damage_cells(
    backbone: str,
    datasets: Sequence[str],
    facts: Sequence[int],
    answers: Sequence[str],
    methods: Sequence[str],
    rate: float,
    expert_rate: float,
    seeds: Iterable[int],
) -> list[Cell]:
    """All combinations, seed by seed; memory experts train at `expert_rate`, LoRA at `rate`.

    The method "before" alone stands for the untouched backbone.

    Raises:
        ValueError: an unknown method.
    """
    if list(methods) == [BEFORE]:
        return [untouched(backbone)]
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(METHODS)}, nor {BEFORE!r} alone")
    rates = {name: expert_rate if name in EXPERTS else rate for name in methods}
    order = product(seeds, datasets, facts, methods, answers)
    return [Cell(backbone, data, count, kind, name, rates[name], seed) for seed, data, count, name, kind in order]


def table_rows(found: Path | None, wanted: Sequence[Cell], expert_rate: float) -> Iterator[dict[str, Any]]:
    """The rows of each wanted cell that the table `found` does not have, behind those of its untouched backbone.

    A cell of a method in `ROUTED_BY` is the LoRA run of the same cell behind the router of its memory experts, which
    are trained at `expert_rate`.
    """
    measured = rows_of(found, CELL_KEY)
    for cell in wanted:
        for each in (untouched(cell.backbone), cell):
            if tuple(asdict(each).values()) not in measured:
                measured.add(tuple(asdict(each).values()))
                for row in _summary(each, expert_rate).to_dict("records"):
                    yield {**asdict(each), **row}


def untouched(backbone: str) -> Cell:
    """The cell of the backbone before anything is memorized."""
    return Cell(backbone, "", 0, "", BEFORE, 0.0, 0)


def _summary(cell: Cell, expert_rate: float) -> pandas.DataFrame:
    """One row a measure, beside the untouched backbone's."""
    before = _before(cell.backbone)
    if cell.method == BEFORE:
        return described(before)
    if cell.method not in ROUTED_BY:
        done, tables = _after(cell)
        parts = [described(tables, before), *([_scope(done)] if cell.method in EXPERTS else [])]
        return pandas.concat(parts, ignore_index=True)
    routing = replace(cell, method=ROUTED_BY[cell.method], learning_rate=expert_rate)
    experts = memorize_cell(routing, cell_facts(routing)[0])
    _, tables = _after(replace(cell, method="lora"), ["free"])
    return described({"free": gated(tables["free"], before["free"], _passing(experts))}, before)


def described(after: Tables, before: Tables | None = None) -> pandas.DataFrame:
    """The rows of `summarize`, each with the value of every item as a text."""
    table = summarize(after, before)
    found = values(after) | ({} if before is None else kept(before, after))
    return table.assign(items=[as_text(found[name]) for name in table["measure"]])


def as_text(found: Sequence[float]) -> str:
    """One value for each item, as `item_values` reads them: digits where all are 0 or 1."""
    numbers = [float(value) for value in found]
    if set(numbers) <= {0.0, 1.0}:
        return "".join(str(int(value)) for value in numbers)
    return " ".join(f"{value:.4g}" for value in numbers)


def item_values(text: str) -> list[float]:
    """The values that `as_text` wrote; `text` of a single item that is neither 0 nor 1 is a number."""
    return [float(part) for part in (text if set(text) <= {"0", "1"} else text.split())]


def _before(name: str) -> Tables:
    return measure_all(asked_backbone(name), [], _folder("untouched", name), {"method": BEFORE}, measures=UNTOUCHED)


def _after(cell: Cell, measures: Sequence[str] = MEASURES) -> tuple[Memorized, Tables]:
    """The run of a cell, and these of its measures; both are kept in the work folder."""
    facts, _ = cell_facts(cell)
    done = memorize_cell(cell, facts)
    config = asdict(cell)
    folder, before = _folder("tuned", str(config)), _folder("untouched", cell.backbone)
    return done, measure_all(done.backbone, facts, folder, config, before, measures=measures)


def _folder(kind: str, name: str) -> Path:
    return work_folder() / "damage" / f"{kind}-{text_sha256(' '.join((name, measured_by())), 16)}"


def gated(after: pandas.DataFrame, before: pandas.DataFrame, passing: set[str]) -> pandas.DataFrame:
    """Free answers of a tuned model behind a gate: items that do not pass keep the untouched backbone's row.

    Raises:
        ValueError: the tables are not of the same items in the same order.
    """
    if not after[["format", "item"]].equals(before[["format", "item"]]):
        raise ValueError("free answers before and after must be to the same questions in the same formats")
    return after.where(after["item"].isin(passing), before)


def _passing(done: Memorized) -> set[str]:
    """The unrelated questions that the router takes for a memorized one; their ids."""
    texts = {"unrelated": [(item.id, item.text) for item in unrelated_questions()]}
    table = recognized(done.backbone, texts)
    return set(table.loc[table["recognized"], "item"])


def _scope(done: Memorized) -> pandas.DataFrame:
    """The share of each out-of-scope set that the router takes for a memorized question."""
    table = recognized(done.backbone, out_of_scope([fact.question for fact in done.facts]))
    groups = table.groupby("set", sort=False)["recognized"]
    rows = [
        {"measure": f"out_of_scope_{name}", "value": part.mean(), "n": len(part), "items": as_text(part)}
        for name, part in groups
    ]
    return pandas.DataFrame(rows)
