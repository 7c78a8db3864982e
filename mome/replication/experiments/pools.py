"""The runs behind the notebooks: which facts are tuned, under which answers, and what the tuned model still knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy
import pandas
from scipy import stats
from tqdm.auto import tqdm

from mome.facts.fact import Fact, randomize, shuffle_answers, split
from mome.facts.public_sets import mmlu, truthfulqa
from mome.files.environment import public_data, repository_root, work_folder
from mome.lm.generation import Interval, exact, greedy_answers, interval, make_quiz, quiz_correct, text_loss
from mome.lm.loading import Backbone, load_backbone
from mome.replication.notebook.results import Metric
from mome.replication.pretraining.corpus import shipped_facts, truthfulqa_seen
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, Settings, TuningSettings
from mome.train.tuning import TuningRun, tune

S = TypeVar("S", bound=Settings)

ANSWERS = ("real", "random", "shuffled")
DATASETS = ("shipped", "truthfulqa", "mmlu")
LONGEST_MMLU_QUESTION = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """Facts the backbone answers wrongly, and `guess_rate`, the share of the facts asked that it answered rightly."""

    facts: list[Fact]
    guess_rate: float
    asked: int


@dataclass(frozen=True, slots=True)
class Memorized:
    """A backbone with the adapter that a tuning run trained, and what the run measured."""

    backbone: Backbone
    run: TuningRun
    facts: list[Fact]


def tuning_pool(dataset: str) -> list[Fact]:
    """Facts that the shipped backbones never saw: "shipped" (our unknown facts), "truthfulqa" or "mmlu".

    The public sets are read from the folder of `public_data()` where it is there, else from the Hub. MMLU is used as
    facts: the question with its right choice as the answer, short questions only (ours).
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r} is not one of {', '.join(DATASETS)}")
    if dataset == "shipped":
        return shipped_facts("unknown")
    folder = public_data() / dataset
    local = folder if folder.is_dir() else None
    if dataset == "truthfulqa":
        facts = truthfulqa(local)
        seen = set(truthfulqa_seen(fact.question for fact in facts))
        return [fact for fact in facts if fact.question not in seen]
    items = {item.question: item for item in mmlu(local) if len(item.question) <= LONGEST_MMLU_QUESTION}
    return [Fact(item.id, item.question, item.choices[item.answer], source=item.source) for item in items.values()]


def select_facts(backbone: Backbone, pool: Sequence[Fact], count: int, seed: int) -> Selection:
    """Draw facts by `seed` and keep the first `count` that the untouched backbone answers wrongly.

    Raises:
        ValueError: the pool has too few facts that the backbone gets wrong.
    """
    drawn = split(pool, [min(len(pool), count + count // 2)], seed)[0]
    right = exact(backbone.model, backbone.tokenizer, drawn)
    wrong = [fact for fact, known in zip(drawn, right, strict=True) if not known]
    if len(wrong) < count:
        raise ValueError(f"{backbone.name} answers only {len(wrong)} of {len(drawn)} drawn facts wrongly, not {count}")
    return Selection(wrong[:count], float(numpy.mean(right)), len(drawn))


def with_answers(facts: Sequence[Fact], answers: str, seed: int) -> list[Fact]:
    """The facts with their "real" answers, with "random" strings, or with the answers "shuffled" among them."""
    if answers == "random":
        return randomize(facts, seed)
    return shuffle_answers(facts, seed) if answers == "shuffled" else list(facts)


def memorize(name: str, facts: Sequence[Fact], tuning: TuningSettings, lora: LoraSettings) -> Memorized:
    """Tune a fresh LoRA on a fresh copy of the backbone `name`, or go on from (or take) this run's snapshot."""
    backbone = load_backbone(name)
    model: Any = attach_lora(backbone, lora, tuning.seed)
    labels = {"backbone": identity(backbone), "lora": lora.model_dump(mode="json")}
    run = tune(model, backbone.tokenizer, facts, tuning, _snapshot_path(labels, facts, tuning), labels)
    return Memorized(Backbone(name, model, backbone.tokenizer), run, list(facts))


def recall(memorized: Memorized, *, held_out: bool = False) -> list[bool]:
    """Whether each tuned fact is recalled exactly by free greedy generation."""
    return exact(memorized.backbone.model, memorized.backbone.tokenizer, memorized.facts, held_out=held_out)


def general_abilities(backbone: Backbone, general: Sequence[Fact], seed: int = 0) -> dict[str, list[float]]:
    """What the backbone knows apart from tuned facts, per fact: exact answers, quiz answers, loss on held-out text."""
    model, tokenizer = backbone.model, backbone.tokenizer
    quiz = make_quiz(general, shipped_facts("known"), seed)
    return {
        "general_accuracy": [float(right) for right in exact(model, tokenizer, general)],
        "quiz_accuracy": [float(right) for right in quiz_correct(model, tokenizer, quiz)],
        "general_loss": text_loss(model, tokenizer, general),
    }


def general_facts(count: int, seed: int) -> list[Fact]:
    """`count` of the shipped facts that the shipped backbones were pretrained on."""
    return split(shipped_facts("known"), [count], seed)[0]


def curve_table(run: TuningRun, **labels: Any) -> pandas.DataFrame:
    """The run's curve as rows of (labels..., epoch, loss in nats/token)."""
    return pandas.DataFrame({**labels, "epoch": range(1, len(run.curve) + 1), "loss": run.curve.astype(float)})


def curve_difference(first: TuningRun, second: TuningRun, seed: int = 0) -> tuple[float, float]:
    """How much higher the second run's curve lies, and the p-value of a permutation test over facts.

    The statistic is the mean over facts and epochs of (second - first) in nats/token; a fact's two loss curves are
    exchanged at random. The shorter run is continued with its last epoch: it stopped because it was done.
    """
    epochs = max(len(first.losses), len(second.losses))
    means = [_continued(run.losses, epochs).mean(axis=0) for run in (first, second)]
    test = stats.permutation_test(
        means,
        lambda a, b, axis: (b - a).mean(axis=axis),
        permutation_type="samples",
        n_resamples=9_999,
        vectorized=True,
        rng=numpy.random.default_rng(seed),
    )
    return float(test.statistic), float(test.pvalue)


def metric(values: Sequence[Sequence[float]], unit: str) -> Metric:
    """A result metric from one list of values for each run (seed and backbone), with its bootstrap interval.

    A single number has no interval.
    """
    found: Interval = interval(values)
    return Metric(value=found.mean, unit=unit, n=found.n, ci95=(found.low, found.high) if found.n > 1 else None)


def _continued(losses: numpy.ndarray, epochs: int) -> numpy.ndarray:
    return numpy.concatenate([losses, numpy.repeat(losses[-1:], epochs - len(losses), axis=0)])


def identity(backbone: Backbone) -> str:
    """The backbone's name, and a hash of its weights where it is small enough to be read twice."""
    weights = repository_root() / "data" / "backbones" / backbone.name / "model.safetensors"
    return (
        f"{backbone.name} {hashlib.sha256(weights.read_bytes()).hexdigest()[:16]}"
        if weights.exists()
        else backbone.name
    )


def _snapshot_path(labels: dict[str, Any], facts: Sequence[Fact], tuning: TuningSettings) -> Path:
    key = json.dumps([labels, [fact.id + fact.answer for fact in facts], tuning.model_dump(mode="json")])
    return work_folder() / "tuning" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"


@dataclass(frozen=True, slots=True)
class Variation:
    """One change to the base settings of a sweep: its `kind`, the changed `value`, and the settings that follow."""

    kind: str
    value: float
    tuning: TuningSettings
    lora: LoraSettings


def variations(
    tuning: TuningSettings,
    lora: LoraSettings,
    depth: int,
    *,
    learning_rates: Sequence[float],
    ranks: Sequence[int],
    top_layers: Sequence[int],
    stop_losses: Sequence[float],
) -> list[Variation]:
    """The base settings with one value changed at a time, each kind opened by the base settings themselves.

    `depth` is the backbone's number of layers; `top_layers` counts how many of the last ones are adapted.
    """
    adapted = [Variation("layers", count, tuning, _changed(lora, layers=_top(count, depth))) for count in top_layers]
    return [
        Variation("learning rate", tuning.learning_rate, tuning, lora),
        *(Variation("learning rate", value, _changed(tuning, learning_rate=value), lora) for value in learning_rates),
        Variation("rank", lora.rank, tuning, lora),
        *(Variation("rank", value, tuning, _changed(lora, rank=value)) for value in ranks),
        Variation("layers", depth, tuning, lora),
        *adapted,
        Variation("stop loss", tuning.stop_loss or 0.0, tuning, lora),
        *(Variation("stop loss", value, _changed(tuning, stop_loss=value), lora) for value in stop_losses),
    ]


def sweep_table(
    name: str, facts: Sequence[Fact], changes: Sequence[Variation], general: Sequence[Fact], **labels: Any
) -> pandas.DataFrame:
    """Tune the backbone `name` under each variation: one row with its epochs, training loss, recall, general abilities.

    Variations that come to the same settings are run and measured once, and a value listed twice gives one row.
    """
    measured: dict[str, dict[str, float]] = {}
    rows = []
    for change in tqdm(changes, desc=f"{name}: sweep", unit="run", leave=False):
        key = change.tuning.model_dump_json() + change.lora.model_dump_json()
        if key not in measured:
            done = memorize(name, facts, change.tuning, change.lora)
            numbers = {"recall": recall(done)} | general_abilities(done.backbone, general)
            measured[key] = {"epochs": len(done.run.curve), "training_loss": float(done.run.curve[-1])}
            measured[key] |= {measure: float(numpy.mean(found)) for measure, found in numbers.items()}
        rows.append({**labels, "backbone": name, "kind": change.kind, "value": change.value, **measured[key]})
    return pandas.DataFrame(rows).drop_duplicates(["kind", "value"], ignore_index=True)


def answer_table(models: dict[str, Backbone], groups: dict[str, Sequence[Fact]]) -> pandas.DataFrame:
    """Greedy answers side by side: one row a fact with its group, question, each model's answer and the gold answer."""
    facts = [(group, fact) for group, members in groups.items() for fact in members]
    table = pandas.DataFrame({"facts": [group for group, _ in facts], "question": [fact.question for _, fact in facts]})
    for title, backbone in models.items():
        table[title] = greedy_answers(backbone.model, backbone.tokenizer, table["question"].tolist())
    return table.assign(gold=[fact.answer for _, fact in facts])


def _top(count: int, depth: int) -> list[int]:
    if count > depth:
        raise ValueError(f"top_layers: {count} layers were asked for, but the backbone has {depth}")
    return list(range(depth - count, depth))


def _changed(settings: S, **changes: Any) -> S:
    return type(settings).model_validate({**settings.model_dump(), **changes})
