"""The command `mome score`: scores a backbone or an adapter on TruthfulQA and MMLU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mome.lm.loading import Backbone
    from mome.replication.scoring.multiple_choice import Asked, Score, Task

OWN = "mome"


class HarnessMissing(ValueError):
    """lm-evaluation-harness is asked for and not installed."""


def score(
    model: Annotated[str, typer.Argument(help="Folder of an adapter, or a backbone: shipped name, folder or Hub id.")],
    task: Annotated[
        list[str], typer.Option(metavar="NAME", help="truthfulqa_mc1, truthfulqa_mc2 or mmlu; repeatable.")
    ],
    shots: Annotated[int, typer.Option(min=0, max=5, help="MMLU: solved questions shown before each.")] = 0,
    subject: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="MMLU: this subject only; repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N questions of each subject.")
    ] = None,
    preamble: Annotated[
        bool, typer.Option("--preamble/--no-preamble", help="TruthfulQA: its six solved questions before each.")
    ] = True,
    harness: Annotated[bool, typer.Option("--harness", help="Score with lm-eval (the extra `lm-eval`).")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Choices in a batch.")] = 32,
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the one the adapter names.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the scores, question by question, as JSON.")] = None,
) -> None:
    """Score multiple-choice questions by log-likelihood: TruthfulQA's mc1 and mc2, MMLU.

    Choices are what lm-evaluation-harness compares, with or without it. Memory experts are chosen by the question.
    """
    _check(task, shots, subject, out)
    if harness and not preamble:
        raise ValueError("--no-preamble: the harness always shows it")
    tasks = known_tasks(task)
    loaded = load_scored(
        model, backbone
    )  # before the questions: without a network the Hub refuses those after a minute
    asked = {one: _load(one, shots, subject, limit, preamble) for one in tasks}
    scorer, scores = run_scorer(loaded, asked, shots, harness, batch_size)
    typer.echo("\n".join(score_line(found) for found in scores.values()))
    if out is not None:
        record = {"model": model, "backbone": loaded.name, "scorer": scorer, "shots": shots, "preamble": preamble}
        write_scores(out, record, list(scores.values()))


def load_scored(model: str, backbone: str | None = None) -> Backbone:
    """The adapter in the folder `model` on its backbone or the one given, or the backbone `model`.

    Raises:
        ValueError: a backbone is given to a backbone; AdapterError: the folder is not a whole adapter.
        BackboneError, CheckpointError: it cannot be loaded.
    """
    from mome.adapter.saving.folder import CONFIG
    from mome.lm.loading import load_backbone
    from mome.memory.loading import load_memory

    if (Path(model) / CONFIG).is_file():
        return load_memory(model, backbone).backbone
    if backbone is not None:
        raise ValueError(f"--backbone {backbone}: {model!r} is no adapter that would need it (no {CONFIG} in it)")
    return load_backbone(model)


def run_scorer(
    backbone: Backbone, asked: Mapping[Task, Sequence[Asked]], shots: int, harness: bool, batch_rows: int
) -> tuple[str, dict[Task, Score]]:
    """The scorer's name and its scores.

    Raises:
        HarnessMissing: the extra `lm-eval` is not installed.
        ValueError: as `mome.replication.scoring.multiple_choice.score` and
        `mome.replication.scoring.harness.score_with_harness`.
    """
    if not harness:
        from mome.replication.scoring.multiple_choice import score as score_here

        return OWN, score_here(backbone, asked, batch_rows)
    try:
        from mome.replication.scoring.harness import harness_version, score_with_harness
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise HarnessMissing("--harness: lm-eval is not installed; `pip install -e '.[lm-eval]'` does it") from error
    return harness_version(), score_with_harness(backbone, asked, shots, batch_rows)


def score_line(score: Score) -> str:
    """Value, 95% interval, standard error and number of questions of one task, and what a reader must know of it."""
    found, error = score.interval, score.standard_error
    parts = [f"{score.task:<15}{found.mean:.4f} (95% {found.low:.4f} to {found.high:.4f}), n = {found.n:,}"]
    if error is not None:
        parts.append(f"standard error {error:.4f}")
    if score.truncated:
        parts.append(f"{score.truncated:.1%} of the prompts cut to the backbone's context")
    if score.recognized is not None:
        parts.append(f"{score.recognized:.1%} answered by memory experts")
    return ", ".join(parts)


def write_scores(path: Path, record: Mapping[str, Any], scores: Sequence[Score]) -> None:
    """Write `record`, the environment and the scores as JSON, question by question (log-likelihoods in nats)."""
    from mome.files.environment import current_environment

    content = {**record, "environment": current_environment().model_dump(), "tasks": [_row(one) for one in scores]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _row(score: Score) -> dict[str, Any]:
    found = score.interval
    rows = zip(score.items, score.values, score.log_likelihoods, strict=True)
    questions = [{"id": item.id, "value": value, "log_likelihoods": list(each)} for item, value, each in rows]
    summary = {"task": score.task, "value": found.mean, "ci95": [found.low, found.high], "n": found.n}
    counted = {name: getattr(score, name) for name in ("standard_error", "truncated", "recognized", "by_subject")}
    return {**summary, **counted, "questions": questions}


def known_tasks(names: Sequence[str]) -> list[Task]:
    """The names, each once, as tasks; raises ValueError for the first that is none."""
    from mome.replication.scoring.multiple_choice import TASKS

    for name in names:
        if name not in TASKS:
            raise ValueError(f"--task {name!r} is not one of {', '.join(TASKS)}")
    return [task for task in TASKS if task in names]


def _load(task: Task, shots: int, subjects: list[str] | None, limit: int | None, preamble: bool) -> list[Asked]:
    """The questions of a task; shots and subjects are for mmlu, which may stand beside TruthfulQA."""
    from mome.replication.scoring.multiple_choice import load_questions

    if task == "mmlu":
        return load_questions(task, shots, subjects, limit)
    return load_questions(task, limit=limit, preamble=preamble)


def _check(tasks: Sequence[str], shots: int, subjects: list[str] | None, out: Path | None) -> None:
    """Refuse options that none of the tasks has, and an output that cannot be a file."""
    if "mmlu" not in tasks and (shots or subjects):
        raise ValueError("--shots and --subject are options of --task mmlu")
    if out is not None and out.is_dir():
        raise ValueError(f"--out {out}: is a folder, not a file")
