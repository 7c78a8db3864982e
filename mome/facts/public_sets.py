"""TruthfulQA (Lin et al. 2021) and MMLU (Hendrycks et al. 2021), from the Hub or from the files as published.

Both routes give equal objects: texts lose outer whitespace, line ends become line feeds, ids follow from the question,
and the order is fixed (TruthfulQA by id; MMLU by subject, then as published). Of the Hub, one pinned revision is read.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets

from mome.facts.fact import Fact, identify
from mome.facts.readers import check_facts
from mome.facts.strict import FactError, check_text, read_json_array, read_rows

LETTERS = "ABCD"
LONGEST_TEXT = 20_000
GENERATION_COLUMNS = {
    "Question": "question",
    "Best Answer": "best_answer",
    "Category": "category",
    "Source": "source",
}
HUB_SPLITS = {"test": "test", "val": "validation", "dev": "dev"}

Row = tuple[str | Path, int, dict[str, Any]]


class HubError(RuntimeError):
    """A data set could not be read from the Hub; the message names repository, revision and the way around."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the Hub at one revision, and what its folder of published files holds."""

    repository: str
    revision: str
    published: str


TRUTHFULQA = HubSource(
    "truthfulqa/truthful_qa", "741b8276f2d1982aa3d5b832d3ee81ed3b896490", "TruthfulQA.csv and mc_task.json"
)
MMLU = HubSource("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe", "dev/, val/ and test/ with their CSV files")


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A question with its choices, in published order, and the indices of the correct ones (one, except in mc2).

    TruthfulQA publishes the correct choices first: whoever shows the choices to a model must shuffle them.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    correct: tuple[int, ...]
    subject: str
    source: str

    @property
    def answer(self) -> int:
        """Index of the one correct choice; `ValueError` where several are correct."""
        (index,) = self.correct
        return index


def truthfulqa(path: str | Path | None = None) -> list[Fact]:
    """The 817 questions of TruthfulQA with their best answers; `relation` is the category, `source` the reference.

    Args:
        path: folder with the published `TruthfulQA.csv`; None reads the Hub.

    Raises:
        FactError: the content is not as published.
        HubError: the Hub cannot be read.
        OSError: the local file cannot be read.
    """
    rows = list(_hub_rows(TRUTHFULQA, "generation", "validation") if path is None else _generation_rows(Path(path)))
    facts = []
    for file, line, record in rows:
        question = _text(file, line, "question", record["question"])
        answer = _text(file, line, "best_answer", record["best_answer"])
        category = _text(file, line, "category", record["category"])
        facts.append(Fact(identify(question), question, answer, relation=category, source=record["source"].strip()))
    check_facts(facts, file=rows[0][0] if rows else "TruthfulQA", lines=[line for _, line, _ in rows])
    return sorted(facts, key=lambda fact: fact.id)


def truthfulqa_multiple_choice(
    path: str | Path | None = None, targets: Literal["mc1", "mc2"] = "mc1"
) -> list[MultipleChoice]:
    """The multiple-choice form of TruthfulQA: one correct choice a question in mc1, one or more in mc2.

    Args:
        path: folder with the published `mc_task.json`; None reads the Hub.
        targets: which of the two sets of choices.

    Raises: as `truthfulqa`, and ValueError for other targets.
    """
    if targets not in ("mc1", "mc2"):
        raise ValueError(f"targets must be 'mc1' or 'mc2', not {targets!r}")
    field = f"{targets}_targets"
    rows = _hub_rows(TRUTHFULQA, "multiple_choice", "validation") if path is None else _choice_rows(Path(path), field)
    questions: dict[str, MultipleChoice] = {}
    for file, line, record in rows:
        question = _text(file, line, "question", record["question"])
        choices = tuple(_text(file, line, field, choice) for choice in record[field]["choices"])
        correct = _correct(file, line, field, record[field]["labels"], one=targets == "mc1")
        identity = identify(question)
        if identity in questions:
            raise FactError(file, line, "question", question, "this question occurs twice")
        questions[identity] = MultipleChoice(identity, question, choices, correct, "truthfulqa", TRUTHFULQA.repository)
    return [questions[identity] for identity in sorted(questions)]


def mmlu(
    path: str | Path | None = None,
    split: Literal["test", "dev", "val"] = "test",
    subjects: Collection[str] | None = None,
) -> list[MultipleChoice]:
    """A split of MMLU (14,042 test, 1,531 val, 285 dev questions), ordered by subject, then as published.

    MMLU repeats some questions within a subject, some with other choices. All are kept, since published scores count
    them: an id is subject, split, position within the subject (from 0) and the hash of the question.

    Args:
        path: folder with the published `dev`, `val` and `test` folders; None reads the Hub.
        split: "test", "dev" or "val".
        subjects: only these, such as "astronomy"; None takes all 57.

    Raises: as `truthfulqa`, and ValueError for an unknown split or subject.
    """
    if split not in HUB_SPLITS:
        raise ValueError(f"split must be one of {', '.join(HUB_SPLITS)}, not {split!r}")
    rows = _hub_rows(MMLU, "all", HUB_SPLITS[split]) if path is None else _mmlu_rows(Path(path), split)
    by_subject: dict[str, list[MultipleChoice]] = {}
    for file, line, record in rows:
        questions = by_subject.setdefault(record["subject"], [])
        questions.append(_mmlu_question(file, line, record, f"{record['subject']}-{split}-{len(questions)}"))
    wanted = sorted(by_subject if subjects is None else set(subjects))
    unknown = [subject for subject in wanted if subject not in by_subject]
    if unknown:
        raise ValueError(f"MMLU has no subject {unknown[0]!r}; it has {', '.join(sorted(by_subject))}")
    return [question for subject in wanted for question in by_subject[subject]]


def _hub_rows(source: HubSource, configuration: str, split: str) -> Iterator[Row]:
    place = f"{source.repository}@{source.revision} ({configuration}, {split})"
    try:
        rows = datasets.load_dataset(source.repository, configuration, revision=source.revision, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise HubError(
            f"could not read {place} from the Hub: {error}. Without the Hub, give the folder of the files as published "
            f"({source.published}) as path"
        ) from error
    for number, record in enumerate(rows, start=1):
        yield place, number, record


def _generation_rows(folder: Path) -> Iterator[Row]:
    file = folder / "TruthfulQA.csv"
    rows = read_rows(file)
    first, header = next(rows, (1, []))
    for column in GENERATION_COLUMNS:
        if header.count(column) != 1:
            raise FactError(
                file, first, column, header, f"the header must name this column once, not {header.count(column)} times"
            )
    for line, cells in rows:
        if len(cells) != len(header):
            raise FactError(file, line, "record", cells, f"{len(cells)} cells, but the header has {len(header)}")
        record = dict(zip(header, cells, strict=True))
        yield file, line, {name: record[column] for column, name in GENERATION_COLUMNS.items()}


def _choice_rows(folder: Path, field: str) -> Iterator[Row]:
    file = folder / "mc_task.json"
    for line, element in read_json_array(file):
        if not isinstance(element, dict):
            raise FactError(file, line, "record", element, "must be a JSON object")
        for name in ("question", field):
            if name not in element:
                raise FactError(file, line, name, None, "this field is missing")
        labels = element[field]
        if not isinstance(labels, dict):
            raise FactError(file, line, field, labels, "must be a JSON object from choice to 0 or 1")
        targets = {"choices": list(labels), "labels": list(labels.values())}
        yield file, line, {"question": element["question"], field: targets}


def _mmlu_rows(folder: Path, split: str) -> Iterator[Row]:
    ending = f"_{split}.csv"
    files = sorted((folder / split).glob(f"*{ending}"))
    if not files:
        raise FileNotFoundError(f"no MMLU files *{ending} in {folder / split}")
    for file in files:
        for line, cells in read_rows(file):
            if len(cells) != 6:
                raise FactError(
                    file, line, "record", cells, f"{len(cells)} cells, but MMLU has 6 (question, A-D, answer)"
                )
            question, *choices, letter = cells
            if letter not in tuple(LETTERS):
                raise FactError(file, line, "answer", letter, "must be A, B, C or D")
            subject, answer = file.name.removesuffix(ending), LETTERS.index(letter)
            yield file, line, {"subject": subject, "question": question, "choices": choices, "answer": answer}


def _mmlu_question(file: str | Path, line: int, record: dict[str, Any], identity: str) -> MultipleChoice:
    question = _text(file, line, "question", record["question"])
    choices = tuple(
        _text(file, line, f"choice {letter}", choice) for letter, choice in zip(LETTERS, record["choices"], strict=True)
    )
    identity = f"{identity}-{identify(question)}"
    return MultipleChoice(identity, question, choices, (record["answer"],), record["subject"], MMLU.repository)


def _text(file: str | Path, line: int, field: str, value: object) -> str:
    cleaned = value.replace("\r\n", "\n").replace("\r", "\n").strip() if isinstance(value, str) else value
    check_text(file, line, field, cleaned, LONGEST_TEXT)
    return str(cleaned)


def _correct(file: str | Path, line: int, field: str, labels: list[object], one: bool) -> tuple[int, ...]:
    for label in labels:
        if type(label) is not int or label not in (0, 1):
            raise FactError(file, line, field, label, "a choice must be labelled 0 or 1")
    correct = tuple(index for index, label in enumerate(labels) if label == 1)
    if not correct or (one and len(correct) > 1):
        raise FactError(
            file, line, field, labels, f"{len(correct)} correct choices, but {'one is' if one else 'some are'} due"
        )
    return correct
