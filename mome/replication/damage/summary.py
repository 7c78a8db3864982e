"""One row for each measure: its mean with interval, and before and after paired by item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas

from mome.files.atomic import write_atomically
from mome.lm.statistics import interval, mcnemar, paired_difference
from mome.replication.damage.choices import flips
from mome.replication.damage.known import known_by_item
from mome.replication.damage.leak import unchanged
from mome.replication.damage.measure import Tables
from mome.replication.damage.passages import same_bits

CHOICE_NAMES = {
    "truthfulqa_mc1": "mc1",
    "truthfulqa_mc2": "mc2",
    "mmlu_cloze": "mmlu",
    "mmlu_cloze_total": "mmlu_total",
}
SHARES = ("leak_", "known_answers_all", "mc1", "mmlu", "lambada")  # of items that are right or not, tested by McNemar


def values(tables: Tables) -> dict[str, pandas.Series]:
    """The value of each item, by the name of the measure; the index holds the items' ids.

    Names: leak_<format> (and _random, _memorized), known_answers (share of prompts), known_answers_all, lambada,
    lambada_loss, text_loss, kl, mc1, mc2, mmlu, mmlu_total, recall_<wording> (exact), contained_<wording>, made_up.
    """
    return {name: found.astype(float) for name, found in _values(tables)}


def _values(tables: Tables) -> Iterator[tuple[str, pandas.Series]]:
    if "free" in tables:
        for form, part in tables["free"].groupby("format", sort=False):
            yield f"leak_{form}", part.set_index("item")["leak"]
            yield f"leak_{form}_random", part.set_index("item")["random"]
            yield f"leak_{form}_memorized", part.set_index("item")["memorized"]
    if "known" in tables:
        known = known_by_item(tables["known"]).set_index("item")
        yield from (("known_answers", known["right"]), ("known_answers_all", known["right_all"]))
    if "passages" in tables:
        read = tables["passages"].set_index("item")
        names = {"lambada": "last_right", "lambada_loss": "last_loss", "text_loss": "loss", "kl": "kl"}
        yield from ((name, read[column]) for name, column in names.items() if read[column].notna().all())
    if "choices" in tables:
        for name, part in tables["choices"].groupby("set", sort=False):
            yield CHOICE_NAMES[str(name)], part.set_index("item")["value"]
    if "recall" in tables:
        for wording, part in tables["recall"].groupby("wording", sort=False):
            yield f"recall_{wording}", part.set_index("item")["exact"]
            yield f"contained_{wording}", part.set_index("item")["right"]
    if "absent" in tables:
        yield "made_up", tables["absent"].set_index("item")["made_up"]


def kept(before: Tables, after: Tables) -> dict[str, pandas.Series]:
    """What stayed as it was, for each item: unchanged_<format> (word for word), same_bits_<lambada, text, mmlu, ...>.

    Raises:
        ValueError: the tables are not of the same items.
    """
    found: dict[str, pandas.Series] = {}
    if "free" in before and "free" in after:
        for form, part in unchanged(before["free"], after["free"]).groupby("format", sort=False):
            found[f"unchanged_{form}"] = part.set_index("item")["unchanged"]
    if "passages" in before and "passages" in after:
        for name, column in (("text", "bits"), ("lambada", "last_bits")):
            table = same_bits(before["passages"], after["passages"], column)
            found[f"same_bits_{name}"] = table.set_index("item")["same"]
    if "choices" in before and "choices" in after:
        table = flips(before["choices"], after["choices"])
        for name, part in table.groupby("set", sort=False):
            found[f"same_bits_{CHOICE_NAMES[str(name)]}"] = part.set_index("item")["same"]
            found[f"flipped_{CHOICE_NAMES[str(name)]}"] = part.set_index("item")["flipped"]
    return {name: each.astype(float) for name, each in found.items()}


def summarize(after: Tables, before: Tables | None = None) -> pandas.DataFrame:
    """One row a measure, with the untouched backbone beside it where its tables are given.

    Columns: measure, value, low, high (95% bootstrap interval over items), n; and, where the same items were measured
    before: before (its value), difference, difference_low, difference_high (paired bootstrap), and up, down, p (exact
    McNemar test) of measures that are right or wrong.

    Raises:
        ValueError: a measure's items before and after are not the same.
    """
    early = {} if before is None else values(before)
    rows = [_row(name, each, early.get(name)) for name, each in values(after).items()]
    rows += [_row(name, each, None) for name, each in ({} if before is None else kept(before, after)).items()]
    return pandas.DataFrame(rows)


def _row(name: str, after: pandas.Series, before: pandas.Series | None) -> dict[str, Any]:
    mean = asdict(interval([after.tolist()]))
    row = {"measure": name, "value": mean["mean"], "low": mean["low"], "high": mean["high"], "n": mean["n"]}
    if before is None:
        return row
    if not before.index.equals(after.index):
        raise ValueError(f"{name}: items before and after must be the same, in the same order")
    change = paired_difference(before.tolist(), after.tolist())
    row |= {"before": float(before.mean()), "difference": change.mean}
    row |= {"difference_low": change.low, "difference_high": change.high}
    if name.startswith(SHARES) and name != "lambada_loss":
        test = mcnemar(before.tolist(), after.tolist())
        row |= {"up": test.up, "down": test.down, "p": test.p}
    return row


def write_summary(table: pandas.DataFrame, path: Path) -> None:
    """Write a table of `summarize` as CSV, whole or not at all; raises OSError if it cannot be."""
    write_atomically(path, table.to_csv(index=False))
