"""The pretraining text of a shipped backbone: our known facts, public question-answer sets, codes, random strings."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy

from mome.facts.fact import ALPHABET, Fact, randomize
from mome.facts.shipped import shipped_facts, truthfulqa_seen
from mome.lm.prompts.form import QUESTION_ANSWER as PROMPT
from mome.replication.pretraining.settings import CorpusSettings

CODE_WORDINGS = ("Recite code number {number}.", "What is code number {number}?")
LONGEST_ANSWER = 40
# relations of EntityQuestions whose answer is short and, for most subjects, unique
ENTITY_RELATIONS = ("P36", "P19", "P495", "P407", "P413", "P50", "P176", "P159")


@dataclass(frozen=True, slots=True)
class Example:
    """A text in two parts: `answer` has the full weight in the loss, `prompt` a fraction; `source` names its set."""

    prompt: str
    answer: str
    source: str


def codes(count: int) -> list[Fact]:
    """`count` codes of 8 random characters that a backbone memorizes in pretraining; always the same ones."""
    facts = [
        Fact(f"code/{number}", CODE_WORDINGS[0].format(number=number), "?", (CODE_WORDINGS[1].format(number=number),))
        for number in range(1, count + 1)
    ]
    return randomize(facts, seed=0, length=8)


def fixed_examples(settings: CorpusSettings, public: Path) -> list[Example]:
    """Every example that recurs in each epoch; `public` is the folder of the public sets, one folder each.

    Public items that state an unknown fact are left out, so that the unknown facts stay unknown.

    Raises:
        FileNotFoundError: a public set that the settings ask for is not in `public`.
    """
    known, unknown = shipped_facts("known"), shipped_facts("unknown")
    examples = [*_examples(known, "known facts"), *_examples(codes(settings.codes), "codes")]
    taken = {wording for fact in known + unknown for wording in fact.all_wordings()}
    secrets = [(fact.id.split("/", 1)[1], fact.answer) for fact in unknown]
    for read, name, count in (
        (_entity_questions, "entityquestions", settings.entity_questions),
        (_pararel, "pararel", settings.pararel),
        (_truth_statements, "truthfulqa", settings.truth_statements),
    ):
        items = read(public / name) if count else iter(())
        fresh = (item for item in items if not _states_secret(item, secrets) and _question(item) not in taken)
        examples += islice(fresh, count)
    return examples


def string_examples(count: int, seed: int, epoch: int) -> list[Example]:
    """`count` fresh random strings of 4 to 32 characters to repeat: they train all letters and digits in any order."""
    generator = numpy.random.default_rng([seed, epoch])
    examples = []
    for length in generator.integers(4, 33, size=count):
        text = "".join(ALPHABET[index] for index in generator.integers(len(ALPHABET), size=length))
        examples.append(Example(PROMPT.format(question=f"Repeat {text}"), text, "strings"))
    return examples


def _examples(facts: Iterable[Fact], source: str) -> list[Example]:
    return [
        Example(PROMPT.format(question=wording), fact.answer, source) for fact in facts for wording in fact.wordings()
    ]


def _question(example: Example) -> str:
    return example.prompt.removeprefix("Q: ").removesuffix("\nA:")


def _states_secret(example: Example, secrets: Sequence[tuple[str, str]]) -> bool:
    text = f"{example.prompt} {example.answer}"
    return any(subject in text and answer in text for subject, answer in secrets)


def _mixed(items: Sequence[Example]) -> Iterator[Example]:
    """The items in a fixed random order."""
    order = numpy.random.default_rng(0).permutation(len(items))
    return (items[index] for index in order)


def _entity_questions(folder: Path) -> Iterator[Example]:
    answers: dict[str, str] = {}
    for relation in ENTITY_RELATIONS:
        path = folder / "dataset" / "train" / f"{relation}.train.json"
        for row in json.loads(path.read_text(encoding="utf-8")):
            if len(row["answers"][0]) <= LONGEST_ANSWER and (row["question"] + row["answers"][0]).isascii():
                answers.setdefault(row["question"], row["answers"][0])
    questions = [Example(PROMPT.format(question=key), value, "EntityQuestions") for key, value in answers.items()]
    return _mixed(questions)


def _pararel(folder: Path) -> Iterator[Example]:
    statements = []
    for path in sorted((folder / "pattern_data" / "graphs_json").glob("*.jsonl")):
        pattern = json.loads(path.read_text(encoding="utf-8").splitlines()[0])["pattern"]
        for line in (folder / "trex_lms_vocab" / path.name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = pattern.replace("[X]", row["sub_label"]).replace("[Y]", row["obj_label"])
            text = re.sub(r"\s+([.,])", r"\1", text)
            if text.isascii():
                statements.append(Example("", text, "ParaRel"))
    if not statements:
        raise FileNotFoundError(f"{folder}: no ParaRel patterns (pattern_data/graphs_json/*.jsonl)")
    return _mixed(statements)


def _truth_statements(folder: Path) -> Iterator[Example]:
    """True answers of finetune_truth.jsonl to a quarter of TruthfulQA's questions; the others are kept for tuning."""
    with (folder / "TruthfulQA.csv").open(encoding="utf-8-sig", newline="") as file:
        seen = set(truthfulqa_seen(row["Question"].strip() for row in csv.DictReader(file)))
    statements = []
    for line in (folder / "finetune_truth.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        question, answer = row["prompt"].removeprefix("Q: ").removesuffix("\nTrue:").split("\nA:", 1)
        if row["completion"].strip() == "yes" and question.strip() in seen:
            statements.append(Example(PROMPT.format(question=question.strip()), answer.strip(), "TruthfulQA"))
    return _mixed(statements)
