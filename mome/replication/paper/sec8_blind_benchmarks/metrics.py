"""The metrics of notebook 17, from a table of checkpoints and, for the real model, the table of whole damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy
import pandas

from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.sec8_blind_benchmarks.detectors import (
    DIRECTIONS,
    KNOWN,
    LEAK,
    RUINED,
    detector,
    measured,
    points,
)

FORMATS = ("tuned_format", "chat", "bare", "prose")
KINDS = 2  # random and real answers
UNITS = {"text_loss": "nats/token", "kl": "nats/token"}


def whole_runs(table: pandas.DataFrame) -> pandas.DataFrame:
    """The untouched backbone's rows, and those of the seeds whose runs on both kinds of answers have their end.

    Nothing where no seed has.
    """
    ended = table[(table["epoch"] > 0) & (table["epoch"] == table["epochs"])]
    kinds = ended.drop_duplicates(["answers", "seed"]).groupby("seed")["answers"].nunique()
    whole = table["seed"].isin(kinds[kinds == KINDS].index) & (table["epoch"] > 0)
    return table[whole | (table["epoch"] == 0)] if whole.any() else table[:0]


def blind_metrics(table: pandas.DataFrame) -> dict[str, Metric]:
    """Of a table of checkpoints: what leaks in the end, what each benchmark is then, and its AUC as a detector.

    leak_end_<format>; change_<measure>_<answers>, after the last epoch less untouched;
    auc_<measure> over all checkpoints, auc_random_<measure> over those of random answers, auc_forgotten_<measure> where
    lost known answers are what is to be detected; leak_epoch, the first checkpoint that is ruined, by run;
    known_answers_true_before and _after, of the runs on real answers.
    """
    names = [name for name in DIRECTIONS if name in set(table["measure"])]
    found = {f"leak_end_{form}": each for form, each in _last_leaks(table)} | true_answers(table)
    for answers in points(table)["answers"].unique():
        for name in (KNOWN, *names):
            found[f"change_{name}_{answers}"] = change_metric(
                last_changes(table, name, answers), UNITS.get(name, "share")
            )
    random = table[(table["epoch"] == 0) | (table["answers"] == "random")]
    for name in names:
        auc = {
            f"auc_{name}": detector(table, name),
            f"auc_random_{name}": detector(random, name),
            f"auc_forgotten_{name}": detector(table, name, forgotten=True),
        }
        found |= {title: each for title, each in auc.items() if each is not None}
    jumps = first_ruined(table)
    return found | ({"leak_epoch": metric([[jump] for jump in jumps], "epochs")} if jumps else {})


def _last_leaks(table: pandas.DataFrame) -> Iterator[tuple[str, Metric]]:
    last = table[(table["answers"] == "random") & (table["epoch"] == table["epochs"])]
    for form in FORMATS:
        rows = last[last["measure"] == f"leak_{form}"]
        if len(rows):
            yield form, metric([item_values(text) for text in rows["items"]], "share")


def true_answers(table: pandas.DataFrame) -> dict[str, Metric]:
    """The share of known questions that are answered rightly before and after memorizing real answers."""
    untouched = measured(table, KNOWN).before
    changes = last_changes(table, KNOWN, "real")
    after = [(untouched + numpy.array(change)).tolist() for change in changes]
    states = {"before": [untouched.tolist()], "after": after}
    return {f"known_answers_true_{state}": metric(runs, "share") for state, runs in states.items() if runs}


def last_changes(table: pandas.DataFrame, name: str, answers: str) -> list[list[float]]:
    """Each item's value after the last epoch less that of the untouched backbone, a list for each run."""
    places, found = points(table), measured(table, name)
    difference = found.after - found.before
    last = places[places["answers"] == answers].groupby("seed")["epoch"].idxmax()
    return [difference[row][~numpy.isnan(difference[row])].tolist() for row in last]


def change_metric(runs: list[list[float]], unit: str) -> Metric:
    """The mean change with its bootstrap interval, which has no width where no two items differ: it is no share."""
    if len({value for run in runs for value in run}) > 1:
        return metric(runs, unit)
    value, count = runs[0][0], sum(map(len, runs))
    return Metric(value=value, unit=unit, n=count, ci95=(value, value), runs=len(runs))


def first_ruined(table: pandas.DataFrame) -> list[int]:
    """The epoch of the first ruined checkpoint of each run on random answers that has one."""
    places = points(table).assign(leak=measured(table, LEAK).shares())
    ruined = places[(places["answers"] == "random") & (places["leak"] >= RUINED)]
    return [int(epoch) for epoch in ruined.groupby("seed")["epoch"].min()]


def course(table: pandas.DataFrame, name: str, answers: str) -> pandas.DataFrame:
    """A measure along the runs: epoch, seeds, and change (from the untouched backbone), low, high (95% over items).

    Epochs that not every run has, but its last, are left out; the last ones stand at their mean epoch.
    """
    places, found = points(table), measured(table, name)
    difference = found.after - found.before
    chosen = places[places["answers"] == answers]
    last = chosen.groupby("seed")["epoch"].transform("max") == chosen["epoch"]
    rows = [{"epoch": 0.0, "seeds": chosen["seed"].nunique(), "change": 0.0, "low": 0.0, "high": 0.0}]
    groups: Sequence[pandas.DataFrame] = [*(part for _, part in chosen[~last].groupby("epoch")), chosen[last]]
    for part in groups:
        if part["seed"].nunique() == chosen["seed"].nunique():
            runs = [difference[row][~numpy.isnan(difference[row])].tolist() for row in part.index]
            mean = change_metric(runs, "share")
            place = {"epoch": part["epoch"].mean(), "seeds": len(part)}
            rows.append({**place, "change": mean.value, "low": mean.bounds[0], "high": mean.bounds[1]})
    return pandas.DataFrame(rows)


def whole_damage(damage: pandas.DataFrame, facts: int = 64) -> dict[str, Metric]:
    """Of `damage.csv`, on all items: what leaks in the end, and what true answers do to the known ones.

    leak_end_<format>; known_answers_true_before and _after, after LoRA on real answers, and the same by what the
    untouched backbone knew: _highly_known under all three prompts, _maybe_known under one or two of them.
    """
    lora = damage[(damage["method"] == "lora") & (damage["facts"] == facts)]
    random, real = (lora[lora["answers"] == kind] for kind in ("random", "real"))
    found = {f"leak_end_{form}": metric(_values(random, f"leak_{form}"), "share") for form in FORMATS}
    before = numpy.array(_values(damage[damage["method"] == "before"], KNOWN)[0])
    after = numpy.array(_values(real, KNOWN))  # [runs, items]
    found |= {
        f"known_answers_true_{state}": metric(runs, "share")
        for state, runs in (("before", [before.tolist()]), ("after", after.tolist()))
    }
    for name, chosen in (("highly_known", before > 0.99), ("maybe_known", (before > 0) & (before < 0.99))):
        if chosen.any():
            found[f"known_answers_true_before_{name}"] = metric([before[chosen].tolist()], "share")
            found[f"known_answers_true_after_{name}"] = metric(after[:, chosen].tolist(), "share")
    return found


def _values(rows: pandas.DataFrame, measure: str) -> list[list[float]]:
    return [item_values(text) for text in rows.loc[rows["measure"] == measure, "items"]]
