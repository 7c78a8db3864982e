"""All measures of one model, kept on disk one by one, so that a run that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas

from mome.facts.fact import Fact
from mome.files.atomic import write_atomically
from mome.files.hashing import text_sha256
from mome.files.sealed import CheckpointError, read_sealed, render
from mome.files.snapshots import load_snapshot, save_snapshot
from mome.lm.loading import Backbone, identity
from mome.replication.damage.absent import made_up
from mome.replication.damage.choices import choice_questions, choose
from mome.replication.damage.known import known_answers
from mome.replication.damage.leak import judged, searched, unrelated_answers
from mome.replication.damage.passages import States, read_passages
from mome.replication.damage.recall import recalled
from mome.replication.damage.sets import known_questions, passages, unrelated_questions

STATES = "passages.safetensors"
PACKAGE = Path(__file__).parents[2]
MEASURES = ("free", "known", "passages", "choices", "recall", "absent")
DECIDING = ("lm/prompts/*.py", "lm/encoding.py", "lm/generation.py", "replication/damage/*.py")

Tables = dict[str, pandas.DataFrame]


def measure_all(
    backbone: Backbone,
    memorized: Sequence[Fact],
    folder: Path,
    config: dict[str, Any],
    before: Path | None = None,
    absent: Sequence[Fact] = (),
    measures: Sequence[str] = MEASURES,
) -> Tables:
    """Every measure of a model on its shipped or public set, one row an item, and what was measured earlier as it was.

    Args:
        backbone: the model, with what is attached to it.
        memorized: the facts that it was tuned on; their answers count as leaks. None: recall is not measured.
        folder: where the tables are kept, `<measure>.json`; beside them the untouched backbone's states (62 MB).
        config: what was done to the model, as JSON: settings, seed. Tables kept under another one are refused.
        before: the folder of the untouched backbone's measures, for the KL divergence; None: this is the untouched one.
        absent: facts that nobody stored; none: made-up answers are not measured.
        measures: which of `MEASURES`. TruthfulQA and MMLU ("choices") need their files or the Hub.

    Returns:
        Tables by the names of `measures`, as `leaks` ("free"), `known_answers`, `read_passages`, `choose`, `recalled`
        and `made_up` make them.

    Raises:
        CheckpointError: a kept table is damaged, or of another backbone, config or set of items.
        HubError, OSError: TruthfulQA or MMLU cannot be read, or the disk is full.
    """
    config = {"backbone": identity(backbone), **config}
    model, tokenizer = backbone.model, backbone.tokenizer
    work: dict[str, tuple[Any, Callable[[Any], pandas.DataFrame]]] = {
        "free": (unrelated_questions, lambda items: unrelated_answers(model, tokenizer, items)),
        "known": (known_questions, lambda items: known_answers(model, tokenizer, items)),
        "passages": (passages, lambda items: _passages(backbone, items, folder, config, before)),
        "choices": (choice_questions, lambda items: choose(backbone, items)),
        "recall": (lambda: list(memorized), lambda items: recalled(model, tokenizer, items)),
        "absent": (lambda: list(absent), lambda items: made_up(model, tokenizer, items)),
    }
    tables = {}
    for name in measures:
        gather, measured = work[name]
        items = gather()
        if items:
            tables[name] = _kept(folder / f"{name}.json", {**config, "items": _named(items)}, partial(measured, items))
    if "free" in tables:
        tables["free"] = judged(tables["free"], searched([fact.answer for fact in memorized]))
    return tables


def measured_by(package: Path = PACKAGE) -> str:
    """16 digits that name the code which asks, ends and judges an answer; what other code measured does not compare."""
    files = [path for pattern in DECIDING for path in sorted(package.glob(pattern))]
    return text_sha256("".join(path.read_text("utf-8") for path in files), 16)


def _passages(
    backbone: Backbone, items: Any, folder: Path, config: dict[str, Any], before: Path | None
) -> pandas.DataFrame:
    """The table of the passages; the states of the untouched backbone are written, or read for the divergence."""
    theirs = None if before is None else load_states(before)
    table, states = read_passages(backbone.model, backbone.tokenizer, items, theirs)
    if before is None:
        save_snapshot(folder / STATES, states, {"config": config})
    return table


def load_states(folder: Path) -> States:
    """The states of the untouched backbone that `measure_all` left in a folder.

    Raises:
        CheckpointError: there are none, or the file is damaged.
    """
    path = folder / STATES
    kept = read_sealed(folder / "passages.json") if path.exists() else {"config": {}}
    found = load_snapshot(path, {name: value for name, value in kept["config"].items() if name != "items"})
    if found is None:
        raise CheckpointError(f"{path}: not there; measure the untouched backbone first")
    return found[0]


def _kept(path: Path, config: dict[str, Any], measured: Callable[[], pandas.DataFrame]) -> pandas.DataFrame:
    """The table at `path`, measured and written there first if it is not there."""
    config = json.loads(json.dumps(config))
    if path.exists():
        body = read_sealed(path)
        theirs = body["config"]
        changed = sorted(name for name in {**theirs, **config} if theirs.get(name) != config.get(name))
        if changed:
            raise CheckpointError(
                f"{path}: measured under other settings ({', '.join(changed)}); delete it to start over"
            )
        return pandas.DataFrame(body["rows"])
    rows = measured().to_dict("list")
    write_atomically(path, render({"config": config, "rows": rows}))
    return pandas.DataFrame(json.loads(json.dumps(rows)))


def _named(items: Any) -> str:
    """16 digits that name a set of items."""
    return text_sha256(json.dumps(items, default=asdict, ensure_ascii=False), 16)
