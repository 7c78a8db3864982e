"""Strict readers of the editing field's public files: zsRE, CounterFact and KnowEdit, one `EditCase` a row.

Every refusal is one `FactError` naming file, line, row, field and value. Outer white space of a text is dropped, as
the published files hold some. Fields that no published variant has are refused: a misspelt one would be lost silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mome.facts.strict import FactError, check_text, parse_json, read_json_array, read_text

LONGEST_TEXT = 20_000
QUESTION_MARK = "nq question: "  # zsRE's locality questions carry where they come from (Natural Questions)
ZSRE = ("subject", "src", "alt", "answers", "rephrase", "loc", "loc_ans", "pred", "cond", "portability", "case_id")
ZSRE_HOP = ("Recalled Relation", "New Question", "New Answer")
REWRITE = ("prompt", "subject", "target_new", "target_true", "relation_id")
PROMPT_LISTS = ("paraphrase_prompts", "neighborhood_prompts", "attribute_prompts", "generation_prompts")
COUNTERFACT = ("case_id", "pararel_idx", "requested_rewrite", *PROMPT_LISTS)
FLAT_PROBES = tuple(f"{kind}_{part}" for kind in ("locality", "portability") for part in ("prompt", "ground_truth"))
FLAT = ("case_id", "prompt", "subject", "target_new", "ground_truth", "rephrase_prompt", *FLAT_PROBES)
KNOWEDIT_NAMES = {
    "subject": ("subject", "concept"),
    "prompt": ("prompt", "text"),
    "target_new": ("target_new", "labels"),
    "rephrase_prompt": ("rephrase_prompt", "rephrase"),
}
KNOWEDIT = (
    *(name for names in KNOWEDIT_NAMES.values() for name in names),
    "ground_truth",
    "cond",
    "case_id",
    "locality",
    "portability",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that tests an edit, with the `answers` that count as right and its `kind` as the file names it."""

    question: str
    answers: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class EditCase:
    """One edit: `prompt` about `subject` shall be answered by `target_new`.

    `old` is the answer so far, empty if the file has none. `rephrasings` are paraphrases of it; `locality`
    probes must keep their answers, those of `portability` follow from the new one.
    """

    id: str
    subject: str
    prompt: str
    target_new: str
    old: str = ""
    rephrasings: tuple[str, ...] = ()
    locality: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()


def read_edits(path: str | Path, form: str, drop_empty: bool = False) -> list[EditCase]:
    """Read the edits of a `.json` (one array) or `.jsonl` file in the `form` "zsre", "counterfact" or "knowedit".

    With `drop_empty` rows without a new answer and probes without an answer are left out, not refused.

    Raises:
        FactError: a row that does not fit the form; the file, its line, the row, field and value are named.
        ValueError: an unknown form, or the suffix is neither `.json` nor `.jsonl`.
        OSError: the file cannot be read.
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r} is not one of {', '.join(FORMS)}")
    edits: dict[str, EditCase] = {}
    for row in _rows(Path(path), drop_empty):
        edit = FORMS[form](row)
        if edit is None:
            continue
        if edit.id in edits:
            raise row.error("case_id", row.values["case_id"], "an earlier row has this id")
        edits[edit.id] = edit
    if not edits:
        raise FactError(path, 1, "record", "", "there are no edits")
    return list(edits.values())


def _zsre(row: _Row) -> EditCase | None:
    """De Cao et al. 2021 as MEND and ROME ship it, and with the portability of Yao et al. 2023."""
    row.only(ZSRE)
    if row.lacks("alt"):
        return None
    old = row.texts("answers")
    question = row.text("loc")
    locality = [Probe(question.removeprefix(QUESTION_MARK), (row.text("loc_ans"),), "loc")]
    hops = []
    if "portability" in row.values:
        hop = row.inside("portability")
        hop.only(ZSRE_HOP)
        hops = [Probe(hop.text("New Question"), (hop.text("New Answer"),), "portability")]
    rest = row.text("subject"), row.text("src"), row.text("alt"), old[0], row.texts("rephrase")
    return EditCase(row.name("zsre"), *rest, tuple(locality), tuple(hops))


def _counterfact(row: _Row) -> EditCase | None:
    """Meng et al. 2022, or the flat rows that EasyEdit made of it.

    Neighbourhood prompts ask about others with the old answer, attribute prompts about others with the new one.
    """
    if "requested_rewrite" not in row.values:
        return _flat(row)
    row.only(COUNTERFACT)
    rewrite = row.inside("requested_rewrite")
    rewrite.only(REWRITE)
    subject, template = rewrite.text("subject"), rewrite.text("prompt")
    if template.count("{}") != 1:
        raise rewrite.error("prompt", template, "must hold {} once, where the subject goes")
    new, old = (rewrite.inside(name).text("str") for name in ("target_new", "target_true"))
    others = {"neighborhood_prompts": old, "attribute_prompts": new}
    row.texts("generation_prompts", needed=False)
    locality = tuple(Probe(text, (right,), name) for name, right in others.items() for text in row.texts(name, False))
    prompt = template.replace("{}", subject)
    return EditCase(
        row.name("counterfact"), subject, prompt, new, old, row.texts("paraphrase_prompts", False), locality
    )


def _flat(row: _Row) -> EditCase | None:
    row.only(FLAT)
    if row.lacks("target_new"):
        return None
    probes: dict[str, tuple[Probe, ...]] = {}
    for kind in ("locality", "portability"):
        given = f"{kind}_prompt" in row.values
        question, answer = f"{kind}_prompt", f"{kind}_ground_truth"
        probes[kind] = (Probe(row.text(question), row.texts(answer), kind),) if given else ()
    subject, prompt, new, old = (row.text(name) for name in ("subject", "prompt", "target_new", "ground_truth"))
    return EditCase(row.name("counterfact"), subject, prompt, new, old, row.texts("rephrase_prompt", False), **probes)


def _knowedit(row: _Row) -> EditCase | None:
    """Zhang et al. 2024: wiki_recent, wiki_counterfact, ZsRE and WikiBio, whose fields have other names."""
    row.only(KNOWEDIT)
    names = {ours: row.either(*theirs) for ours, theirs in KNOWEDIT_NAMES.items()}
    if row.lacks(names["target_new"]):
        return None
    old = row.texts("ground_truth", needed=False)
    subject, prompt, new = (row.text(names[name]) for name in ("subject", "prompt", "target_new"))
    probes = {kind: tuple(_probes(row, kind)) for kind in ("locality", "portability")}
    rephrasings = row.texts(names["rephrase_prompt"], needed=False)
    return EditCase(row.name("knowedit"), subject, prompt, new, old[0] if old else "", rephrasings, **probes)


def _probes(row: _Row, name: str) -> Iterator[Probe]:
    """The probes of `{kind: [{"prompt": ..., "ground_truth": ...}, ...]}`; a prompt may stand in a list of one."""
    kinds = row.inside(name) if row.values.get(name) is not None else None
    for kind, asked in kinds.values.items() if kinds else ():
        assert kinds is not None
        if not isinstance(asked, list):
            raise kinds.error(kind, asked, "must be an array")
        for place in range(len(asked)):
            probe = kinds.inside(kind, place)
            probe.only(("prompt", "ground_truth"))
            questions = probe.texts("prompt")
            if len(questions) > 1:
                raise probe.error("prompt", list(questions), "must be one question")
            if not probe.lacks("ground_truth"):
                yield Probe(questions[0], probe.texts("ground_truth"), kind)


FORMS: dict[str, Callable[[_Row], EditCase | None]] = {
    "zsre": _zsre,
    "counterfact": _counterfact,
    "knowedit": _knowedit,
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A JSON object of a file with what an error must name; `path` leads to it from the row."""

    file: Path
    line: int
    number: int
    values: dict[str, Any]
    drop_empty: bool
    path: str = ""

    def error(self, field: str, value: object, problem: str) -> FactError:
        return FactError(self.file, self.line, f"{self.path}{field} of row {self.number}", value, problem)

    def name(self, form: str) -> str:
        return f"{form}/{self.values.get('case_id', self.number)}"

    def only(self, names: Iterable[str]) -> None:
        allowed = tuple(dict.fromkeys(names))
        for field, value in self.values.items():
            if field not in allowed:
                raise self.error(field, value, f"unknown field; the fields are {', '.join(allowed)}")

    def either(self, *names: str) -> str:
        """The one of two names that the row has; the first if it has none."""
        given = [name for name in names if name in self.values]
        if len(given) > 1:
            raise self.error(given[1], self.values[given[1]], f"stands beside {given[0]!r}, which means the same")
        return given[0] if given else names[0]

    def lacks(self, field: str) -> bool:
        """Whether the field is empty and the row is to be dropped for it."""
        found = list(_leaves(self.values.get(field, [])))
        return self.drop_empty and not any(isinstance(text, str) and text.strip() for text in found)

    def text(self, field: str) -> str:
        value = self._value(field)
        found = value.strip() if isinstance(value, str) else value
        check_text(self.file, self.line, f"{self.path}{field} of row {self.number}", found, LONGEST_TEXT)
        return str(found)

    def texts(self, field: str, needed: bool = True) -> tuple[str, ...]:
        """The strings of a string, an array, or an array of arrays of aliases; each once, in their order."""
        if self.values.get(field) is None and not needed:
            return ()
        leaves = [text for text in _leaves(self._value(field)) if not (self.drop_empty and text == "")]
        found = [replaced.text(field) for replaced in (self._holding(field, text) for text in leaves)]
        if needed and not found:
            raise self.error(field, self.values[field], "must hold a string")
        return tuple(dict.fromkeys(found))

    def inside(self, field: str, place: int | None = None) -> _Row:
        value, path = self._value(field), f"{self.path}{field}"
        if place is not None:
            value, path = value[place], f"{path}[{place}]"
        if not isinstance(value, dict):
            raise self.error(field, value, "must be an object")
        return _Row(self.file, self.line, self.number, value, self.drop_empty, f"{path}.")

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise self.error(field, None, "this field is missing")
        return self.values[field]

    def _holding(self, field: str, text: Any) -> _Row:
        return _Row(self.file, self.line, self.number, {field: text}, self.drop_empty, self.path)


def _leaves(value: Any) -> Iterator[Any]:
    for part in value if isinstance(value, list) else [value]:
        yield from part if isinstance(part, list) else [part]


def _rows(path: Path, drop_empty: bool) -> Iterator[_Row]:
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"{path}: edits are read from .json or .jsonl files, not from '{path.suffix}'")
    lines = read_json_array(path) if path.suffix == ".json" else _json_lines(path)
    for number, (line, values) in enumerate(lines, start=1):
        if not isinstance(values, dict):
            raise FactError(path, line, f"record of row {number}", values, "must be an object")
        yield _Row(path, line, number, values, drop_empty)


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for line, text in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        yield line, parse_json(text, path, line, "record")
