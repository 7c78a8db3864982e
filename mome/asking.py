"""What was memorized can be asked for: an adapter and its backbone as one thing that answers, is saved and loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError

from mome.adapter import MomeModel, mome_model
from mome.adapter_config import METHOD
from mome.adapter_storage import BANK_FOLDER
from mome.backbones import Backbone, load_backbone
from mome.evaluation import BATCH_ROWS, greedy_answers
from mome.facts import LONGEST
from mome.generalization import question_queries
from mome.reading import check_text, read_text
from mome.routes import Routes

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# in tokens: a memorized answer ends by itself, a backbone that knows nothing may ramble
LONGEST_MEMORIZED, LONGEST_BACKBONE = LONGEST["answer"], 40


class AdapterError(ValueError):
    """A folder that is not a whole adapter; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer. `memorized`: whether the experts gave it, as the question resembles a memorized one.

    `score` is the cosine to the memorized question that is nearest. Both are None for a LoRA adapter.
    """

    text: str
    memorized: bool | None = None
    score: float | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Memory:
    """A backbone with an adapter that has memorized facts; `report` says how that went, None if it was loaded."""

    backbone: Backbone
    report: object = None

    def ask(self, question: str) -> Answer:
        """The answer to one question; raises FactError (a ValueError) if it is empty."""
        return self.ask_all([question])[0]

    def ask_all(self, questions: Sequence[str]) -> list[Answer]:
        """The answers to `questions`; those that resemble no memorized one are answered by the backbone alone.

        Raises:
            FactError: a question is empty, or has white space around it; its line is its place in the list.
        """
        check_questions(questions)
        model, tokenizer = self.backbone.model, self.backbone.tokenizer
        mome = mome_model(model)
        if mome is None:
            return [Answer(text) for text in greedy_answers(model, tokenizer, questions, LONGEST_MEMORIZED)]
        routes = mome.router.route(question_queries(model, tokenizer, questions))
        known = routes.weights.any(dim=1).tolist()
        texts: dict[int, str] = {}
        for memorized in (True, False):
            chosen = [index for index, found in enumerate(known) if found is memorized]
            texts |= self._answers(mome, questions, routes, chosen, memorized)
        found = zip(range(len(questions)), known, routes.scores.tolist(), strict=True)
        return [Answer(texts[index], memorized, score) for index, memorized, score in found]

    def _answers(
        self, mome: MomeModel, questions: Sequence[str], routes: Routes, chosen: list[int], memorized: bool
    ) -> dict[int, str]:
        """The answers to the `chosen` questions, by their number, with the experts of `routes` or without any."""
        texts: dict[int, str] = {}
        longest = LONGEST_MEMORIZED if memorized else LONGEST_BACKBONE
        order = sorted(chosen, key=lambda index: len(questions[index]))  # as greedy_answers puts its rows
        for start in range(0, len(order), BATCH_ROWS):
            part = order[start : start + BATCH_ROWS]
            rows = Routes(routes.ids[part], routes.weights[part], routes.scores[part])
            asked = [questions[index] for index in part]
            with mome.using(mome.select(rows) if memorized else None):
                answers = greedy_answers(mome.model, self.backbone.tokenizer, asked, longest)
            texts.update(zip(part, answers, strict=True))
        return texts

    def save(self, folder: str | Path) -> None:
        """Write the adapter in PEFT's format, with its bank of experts and a card, naming the backbone as it was given.

        Raises:
            OSError: the folder cannot be written.
        """
        model: Any = self.backbone.model
        model.peft_config[model.active_adapter].base_model_name_or_path = self.backbone.name
        model.get_base_model().name_or_path = model.config.name_or_path = self.backbone.name  # for the card
        # PEFT's automatic choice would ask the Hub for a shipped backbone
        model.save_pretrained(str(folder), save_embedding_layers=False)


def load_memory(folder: str | Path, backbone: str | None = None) -> Memory:
    """Load an adapter that `mome tune` or `Memory.save` wrote, on the backbone it names or on the one given.

    Raises:
        AdapterError: the folder is not a whole adapter, or does not fit the backbone.
        CheckpointError: the bank of experts is damaged.
        BackboneError: the backbone cannot be loaded.
    """
    folder = Path(folder)
    config = _whole(folder)
    name = backbone or config.get("base_model_name_or_path")
    if not name:
        raise AdapterError(f"{folder / CONFIG}: names no backbone; say which one (--backbone)")
    loaded = load_backbone(name)
    try:
        model: Any = PeftModel.from_pretrained(loaded.model, str(folder))
    except (SafetensorError, KeyError) as error:
        raise AdapterError(f"{folder / WEIGHTS}: damaged ({error}); memorize again") from error
    except (RuntimeError, ValueError) as error:
        if "size mismatch" in str(error) or isinstance(error, ValueError):
            raise AdapterError(f"{folder}: does not fit the backbone {name!r}: {_first_lines(error)}") from error
        raise
    return Memory(Backbone(name, model.eval(), loaded.tokenizer))


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a saved adapter.

    Raises:
        AdapterError: the folder has none, or it is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise AdapterError(f"{folder}: not an adapter folder, it has no {CONFIG}; `mome tune` makes one")
    try:
        found = json.loads(path.read_text("utf-8"))
        found["peft_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{path}: not the configuration of an adapter ({error!r})") from error
    return dict(found)


def _whole(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter that has all its files."""
    found = read_config(folder)
    for needed in (WEIGHTS, BANK_FOLDER) if found["peft_type"] == METHOD else (WEIGHTS,):
        if not (folder / needed).exists():
            raise AdapterError(f"{folder}: {needed} is missing; run `mome tune` again to have it written")
    return found


def check_questions(questions: Sequence[str], file: str = "questions") -> None:
    """Refuse what is not a non-empty line of text; `file` is to be named.

    Raises:
        FactError: the first question that is not; its line is its place in the list.
    """
    for line, question in enumerate(questions, start=1):
        check_text(file, line, "question", question, LONGEST["question"])


def gather_questions(given: Sequence[str], file: Path | None) -> list[str]:
    """The questions `given` and those of a text file, one a line; the file `-` is standard input.

    Raises:
        FactError: a question is empty; line and file are named.
        ValueError: there is no question.
        OSError: the file cannot be read.
    """
    check_questions(given, "the command line")
    text = "" if file is None else sys.stdin.read() if str(file) == "-" else read_text(file, byte_order_mark=True)
    lines = [line.strip() for line in text.splitlines()]
    check_questions(lines, "standard input" if str(file) == "-" else str(file))
    if not (given or lines):
        raise ValueError("no question: give some, each in quotes, or a file with --questions")
    return [*given, *lines]


def answer_lines(folder: Path, questions: Sequence[str], backbone: str | None, only_memorized: bool) -> list[str]:
    """One line for each question: the answer, and after a tab whether it was memorized, with the score.

    Raises:
        AdapterError: as `load_memory`; or it should answer memorized questions only, and cannot tell them from others.
        FactError: a question is empty.
    """
    if only_memorized and _whole(folder).get("min_score") is None:
        raise AdapterError(f"{folder}: this adapter cannot tell memorized questions from others (no null key)")
    return [_line(answer, only_memorized) for answer in load_memory(folder, backbone).ask_all(questions)]


def _line(answer: Answer, only_memorized: bool) -> str:
    if answer.memorized is None:
        return answer.text
    unknown = ("I don't know", "not memorized") if only_memorized else (answer.text, "backbone")
    text, who = (answer.text, "memorized") if answer.memorized else unknown
    return f"{text}\t{who}, score {answer.score:.2f}"


def _first_lines(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
