"""The kept tables of a real model behind figure 5: their rows, the metrics, and what was not measured yet.

Start at `real_model`. A table or a row that is missing gives no metric; the command that measures it is named instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas

from mome.replication.experiments.real_model import damaged, memorizing, paraphrases
from mome.replication.experiments.real_model.recognition import KEY as RECOGNITION_KEY
from mome.replication.notebook.results import Metric, shared_table
from mome.replication.paper.fig5_mome_convergence import metrics
from mome.replication.paper.fig5_mome_convergence.bars import valued

BACKBONE = "smollm2-135m"
SEEDS = (0, 1, 2)  # the reported ones
DEVELOPMENT = (90,)  # where each method was tried at as many learning rates
TRIED = {"lora": (2e-4, 5e-4, 1e-3), "mome": (2e-3, 5e-3, 1e-2)}
FACTS, DATASET = 64, "truthfulqa"
RATES = {"lora": 2e-4, "mome": 5e-3}  # the paper's; the one chosen on development seed 90
PARAPHRASED = 128  # facts that have a wording by hand
STORED, PROMISED = 10_000, 0.01  # facts among which one is recognized, at this false-positive rate
ANSWERS = ("random", "real")
COLUMNS = {  # those that are read, so that a table that is not there reads as an empty one
    "memorizing": [*memorizing.KEY, *memorizing.TEXTS, "epochs", "epochs_to_0.05", "final_loss", "recall", "seconds"],
    "damage": [*damaged.KEY, "items"],
    "paraphrases": [*paraphrases.KEY, "items"],
    "recognition": [*RECOGNITION_KEY, "recognized", "absent_taken", "n_recognized", "n_absent"],
}
TEXTS = dict.fromkeys((*memorizing.TEXTS, "items"), str)
BY_RUN = ("epochs_to_0.05", "final_loss", "recall", "seconds")
BY_DAMAGE = ("leak", "unrelated_unchanged", "general_accuracy_drift", "general_loss_drift")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that the table `table` has for each seed once they are measured: those with these `labels`."""

    table: str
    what: str
    labels: Mapping[str, Any]
    options: str
    seeds: tuple[int, ...] = SEEDS

    def seeds_in(self, table: pandas.DataFrame) -> set[int]:
        """The seeds of which the table has a row."""
        found = table
        for name, value in {"backbone": BACKBONE, **self.labels}.items():
            found = found[found[name] == value]
        return set(found["seed"])

    def missing_from(self, table: pandas.DataFrame) -> str:
        """What was not measured and the command that measures it; empty where nothing is missing."""
        lacking = [str(seed) for seed in self.seeds if seed not in self.seeds_in(table)]
        if not lacking:
            return ""
        path = f"data/results/small/{self.table}.csv"
        first = f"--first-seed {self.seeds[0]} " if self.seeds[0] else ""
        command = f"mome table {self.table} {path} {self.options} {first}--seeds {len(self.seeds)}"
        return f"{self.what}, seed{'s' * (len(lacking) > 1)} {', '.join(lacking)}: `{command}`"


@dataclass(frozen=True, slots=True)
class RealModel:
    """`runs` are the rows of LoRA and of memory experts; `missing` has a line for each part that was not measured."""

    runs: pandas.DataFrame
    metrics: dict[str, Metric]
    missing: list[str]


def parts() -> Iterator[Part]:
    """Everything that figure 5 reads of the real model."""
    of_facts = {"dataset": DATASET, "facts": FACTS}
    for method, answers in product(RATES, ANSWERS):
        labels = {**of_facts, "answers": answers, "method": method, "learning_rate": RATES[method]}
        options = f"--answers {answers} --method {method} --rate {RATES[method]:g}"
        yield Part("memorizing", f"{method} on {answers} answers", labels, options)
    for method, rates in TRIED.items():
        for rate in rates:
            labels = {**of_facts, "answers": "random", "method": method, "learning_rate": rate}
            options = f"--answers random --method {method} --rate {rate:g}"
            yield Part("memorizing", f"{method} on random answers at the rate {rate:g}", labels, options, DEVELOPMENT)
    for method, answers in product(metrics.CHECKED, ANSWERS):
        rate = RATES["mome" if method in damaged.EXPERTS else "lora"]
        labels = {**of_facts, "answers": answers, "method": method, "learning_rate": rate}
        what = f"what {method} does to other answers, after {answers} ones"
        yield Part("damage", what, labels, f"--answers {answers} --method {method}")
    for training in paraphrases.TRAININGS:
        labels = {"facts": PARAPHRASED, "training": training, "least_names": memorizing.LEAST_NAMES}
        yield Part("paraphrases", f"other wordings, training {training}", labels, f"--training {training}")
    labels = {"facts": STORED, "promised": PROMISED}
    yield Part("recognition", f"recognition among {STORED:,} facts", labels, f"--facts {STORED}")


def read(name: str) -> pandas.DataFrame:
    """The rows of a kept table on the real model; none where there is no such table.

    Raises:
        ValueError: the table lacks a column.
    """
    path = shared_table(name)
    if not path.is_file():
        return pandas.DataFrame(columns=COLUMNS[name])
    table = pandas.read_csv(path, dtype=TEXTS)
    lacking = [column for column in COLUMNS[name] if column not in table]
    if lacking:
        raise ValueError(f"{path}: column {lacking[0]!r} is missing; `mome table {name}` writes it")
    return table[table["backbone"] == BACKBONE]


def real_model() -> RealModel:
    """Read the four tables of the real model and compute the metrics of what they have.

    A run whose loss became no number is no run; it is named among what is missing.
    """
    tables = {name: read(name) for name in COLUMNS}
    missing = [part.missing_from(tables[part.table]) for part in parts()]
    reported = {name: table[table["seed"].isin(SEEDS)] for name, table in tables.items()}
    tried = _runs(tables["memorizing"])
    runs = tried[tried["seed"].isin(SEEDS) & (tried["learning_rate"] == tried["method"].map(RATES))]
    damage = reported["damage"]
    damage = damage[(damage["method"] == "before") | (damage["dataset"] == DATASET)]
    found = metrics.run_metrics(runs.dropna(subset="final_loss"))
    found |= metrics.epoch_ratios(runs.dropna(subset="final_loss"))
    found |= metrics.runs_that_fit(runs.dropna(subset="final_loss"))
    found |= metrics.best_rate_ratios(tried[tried["seed"].isin(DEVELOPMENT)].dropna(subset="final_loss"))
    checked = metrics.relabelled(damage, metrics.CHECKED)
    for answers in ANSWERS:
        found |= metrics.damage_metrics(checked, FACTS, answers)
    found |= metrics.unchecked_metrics(damage, FACTS) | metrics.gate_metrics(checked, FACTS)
    found |= metrics.wording_metrics(reported["paraphrases"])
    found |= metrics.recognition_metrics(reported["recognition"], STORED, PROMISED)
    lost = [_diverged(row) for row in runs[runs["final_loss"].isna()].to_dict("records")]
    return RealModel(runs.dropna(subset="final_loss"), found, [line for line in (*missing, *lost) if line])


def _runs(table: pandas.DataFrame) -> pandas.DataFrame:
    """Runs on the facts of figure 5, at all rates and seeds."""
    of_facts = (table["dataset"] == DATASET) & (table["facts"] == FACTS)
    return table[of_facts & table["answers"].isin(ANSWERS)]


def _diverged(row: Mapping[Any, Any]) -> str:
    return f"{row['method']} on {row['answers']} answers, seed {row['seed']}: its loss became no number"


def method_table(found: Mapping[str, Metric]) -> pandas.DataFrame:
    """A row for each measure and kind of answers, a column for each method; a cell is "value (95% interval)".

    Memorizing says nothing of LoRA behind the threshold: its runs are LoRA's. "not measured" is said elsewhere, by the
    lines of `RealModel.missing`; a cell is empty then. Without the check of names the columns end in `NO_NAMES`.
    """
    rows = {}
    for answers, measure in product(ANSWERS, (*BY_RUN, *BY_DAMAGE)):
        end = "" if answers == "random" else f"_{answers}"
        form = f"{{}}_{measure}_{answers}" if measure in BY_RUN else f"{measure}_{{}}{end}"
        cells = {method: found.get(form.format(method)) for method in metrics.GATES}
        for method in metrics.UNCHECKED.values():  # measured after random answers
            cells[f"{method}{metrics.NO_NAMES}"] = found.get(f"{form.format(method)}{metrics.NO_NAMES}")
        rows[answers, measure] = {name: "" if cell is None else valued(cell) for name, cell in cells.items()}
    return pandas.DataFrame(rows).T
