"""TruthfulQA and MMLU through lm-evaluation-harness (Gao et al., package `lm-eval`, the extra `lm-eval`).

Prompts, targets and metrics are those of the task files that the harness brings along; only where the questions come
from is changed, to those of `multiple_choice`. So the harness runs without the Hub, and on the same questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lm_eval.tasks
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM

from mome.facts.public_sets import MultipleChoice, mmlu
from mome.lm.loading import Backbone
from mome.lm.losses import reads_prompts
from mome.replication.scoring.likelihood import BATCH_ROWS
from mome.replication.scoring.multiple_choice import Asked, Score, Task, public_folder

Request = tuple[tuple[str, str], list[int], list[int]]  # the texts, and the tokens of context and continuation


class HarnessModel(HFLM):
    """A backbone, with or without an adapter, as the harness wants it.

    The harness reads a context and a continuation as one text. Memory experts would be chosen by all of it, so each
    choice would get experts of its own. Here they are chosen by the context alone. For this, requests are given to the
    harness in groups whose contexts have as many tokens; padding is on the right and is no prompt either.
    """

    def __init__(self, backbone: Backbone, batch_rows: int = BATCH_ROWS) -> None:
        # a sum of log-probabilities in bf16 would tell few choices apart
        options = {"backend": "causal", "batch_size": batch_rows, "softmax_dtype": "float32"}
        super().__init__(pretrained=backbone.model, tokenizer=backbone.tokenizer, **options)
        self.prompt_tokens: int | None = None

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is the greedy one."""
        if not reads_prompts(self.model):
            return list(super()._loglikelihood_tokens(requests, disable_tqdm, override_bs))
        groups: dict[int, list[int]] = {}
        for index, (_, context, continuation) in enumerate(requests):
            cut = max(0, len(context) + len(continuation) - (self.max_length + 1))
            groups.setdefault(len(context) - cut, []).append(index)
        found: dict[int, tuple[float, bool]] = {}
        try:
            for prompt_tokens, chosen in groups.items():
                self.prompt_tokens = prompt_tokens
                part = super()._loglikelihood_tokens([requests[index] for index in chosen], True, override_bs)
                found.update(zip(chosen, part, strict=True))
        finally:
            self.prompt_tokens = None
        return [found[index] for index in range(len(requests))]

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        if self.prompt_tokens is None:
            return super()._model_call(inps, *args, **kwargs)
        prompt = torch.zeros_like(inps, dtype=torch.bool)
        prompt[:, : self.prompt_tokens] = True
        with torch.no_grad():
            return self.model(input_ids=inps, prompt_mask=prompt, use_cache=False).logits


def harness_version() -> str:
    """Which release of the harness is installed."""
    return f"lm-eval {version('lm_eval')}"


def score_with_harness(
    backbone: Backbone, asked: Mapping[Task, Sequence[Asked]], shots: int = 0, batch_rows: int = BATCH_ROWS
) -> dict[Task, Score]:
    """As `multiple_choice.score`, but the harness does the scoring; values and metrics are its own.

    Raises:
        ValueError: TruthfulQA's correct choice is not the first, as its task file supposes; a subject it does not have.
        FactError, HubError, OSError: MMLU's solved examples cannot be read.
    """
    model = HarnessModel(backbone, batch_rows)
    with TemporaryDirectory(prefix="harness-") as folder:
        tasks = {task: write_tasks(Path(folder), task, questions) for task, questions in asked.items()}
        manager = lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False)
        names = [name for parts in tasks.values() for name in parts]
        # seeds: None leaves the random state of the caller alone; nothing here is drawn
        seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed"))
        results = simple_evaluate(model, tasks=names, num_fewshot=shots, task_manager=manager, **seeds)
    return {task: _score(task, parts, results["samples"]) for task, parts in tasks.items()}


def write_tasks(folder: Path, task: Task, questions: Sequence[Asked]) -> dict[str, list[MultipleChoice]]:
    """Write the harness' task files (YAML) and questions (JSON) to a folder; returns each task's name and questions.

    A file includes the one the harness brings along, and names another source of the questions; MMLU is a task a
    subject, whose examples are its whole dev split.

    Raises: as `score_with_harness`.
    """
    subjects: dict[str, list[MultipleChoice]] = {}
    for one in questions:
        subjects.setdefault(one.item.subject, []).append(one.item)
    if task != "mmlu":
        found = subjects["truthfulqa"]
        splits = {"validation": [_truthfulqa_row(task, item) for item in found]}
        return {_write(folder, task, _brought(f"truthfulqa/{task}.yaml"), splits): found}
    made = {}
    for subject, found in subjects.items():
        name = f"mmlu_{subject}"
        included = _brought(f"mmlu/default/{name}.yaml")
        examples = mmlu(public_folder("mmlu"), "dev", [subject])
        splits = {"test": [_mmlu_row(item) for item in found], "dev": [_mmlu_row(item) for item in examples]}
        made[_write(folder, name, included, splits)] = found
    return made


def _brought(name: str) -> Path:
    """A task file of the harness."""
    path = Path(lm_eval.tasks.__file__).parent / name
    if not path.is_file():
        raise ValueError(f"{harness_version()} brings no task file {name} along")
    return path


def _write(folder: Path, name: str, included: Path, splits: Mapping[str, list[dict[str, Any]]]) -> str:
    files = {}
    for split, rows in splits.items():
        file = folder / f"{name}_{split}.json"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        files[split] = str(file)
    source = {"data_files": files, "cache_dir": str(folder / "cache")}
    task = {"include": str(included), "task": f"local_{name}", "dataset_path": "json", "dataset_name": None}
    # JSON is YAML
    (folder / f"{name}.yaml").write_text(json.dumps({**task, "dataset_kwargs": source}), "utf-8")
    return f"local_{name}"


def _truthfulqa_row(task: Task, item: MultipleChoice) -> dict[str, Any]:
    if 0 not in item.correct:
        raise ValueError(f"{task}, question {item.question!r}: the harness supposes that its first choice is correct")
    labels = [int(index in item.correct) for index in range(len(item.choices))]
    field = f"{task.removeprefix('truthfulqa_')}_targets"
    return {"question": item.question, field: {"choices": list(item.choices), "labels": labels}}


def _mmlu_row(item: MultipleChoice) -> dict[str, Any]:
    return {"question": item.question, "choices": list(item.choices), "answer": item.answer}


def _score(task: Task, parts: Mapping[str, Sequence[MultipleChoice]], samples: Mapping[str, Any]) -> Score:
    """One `Score` of the samples that the harness logged for a task's parts."""
    items: list[MultipleChoice] = []
    values: list[float] = []
    found: list[tuple[float, ...]] = []
    for name, questions in parts.items():
        logged = sorted(samples[name], key=lambda sample: sample["doc_id"])
        for item, sample in zip(questions, logged, strict=True):
            items.append(item)
            values.append(float(sample["acc"]))
            found.append(tuple(float(likelihood) for likelihood, _ in sample["filtered_resps"]))
    return Score(task, tuple(items), tuple(values), tuple(found))
