"""The public files of the editing field are read row by row, in every variant, and refused with one located error."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mome.facts.strict import FactError
from mome.replication.paper.sec10_editing.public_edits import FORMS, EditCase, Probe, read_edits

ZSRE: dict[str, Any] = {
    "subject": "Lake Toad",
    "src": "Which river feeds Lake Toad?",
    "pred": "the Newt",
    "rephrase": "What is the river that feeds Lake Toad?",
    "alt": " the Frog",
    "answers": ["the Eel", "Eel"],
    "loc": "nq question: who built the bridge of sighs",
    "loc_ans": "Antonio Contin",
    "cond": "the Newt >> the Frog || Which river feeds Lake Toad?",
}
HOP = {
    "Recalled Relation": "(Frog, source, Mount Fly)",
    "New Question": "Where does it rise?",
    "New Answer": "Mount Fly",
}
COUNTERFACT: dict[str, Any] = {
    "case_id": 7,
    "pararel_idx": 12,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "subject": "Ada Poe",
        "target_new": {"str": "Dutch", "id": "Q7411"},
        "target_true": {"str": "Irish", "id": "Q9142"},
    },
    "paraphrase_prompts": ["It rained. Ada Poe, a native", "Ada Poe spoke the language"],
    "neighborhood_prompts": ["The mother tongue of Bram Low is"],
    "attribute_prompts": ["Jan Vos is a native speaker of"],
    "generation_prompts": ["Ada Poe lives in"],
}
FLAT: dict[str, Any] = {
    "case_id": 8,
    "prompt": "Ada Poe works as",
    "subject": "Ada Poe",
    "target_new": "a baker",
    "ground_truth": "a judge",
    "rephrase_prompt": "Ada Poe is known as",
    "locality_prompt": "Bram Low works as",
    "locality_ground_truth": "a judge",
}
KNOWEDIT: dict[str, Any] = {
    "subject": "Leo Gray",
    "prompt": "The place of death of Leo Gray is",
    "target_new": "Oslo",
    "ground_truth": ["Rome"],
    "rephrase_prompt": "Where did Leo Gray die?",
    "portability": {
        "Reasoning": [{"prompt": "Leo Gray died in the country of", "ground_truth": [["Norway", "Norge"], ["Norway"]]}],
        "Subject_Aliasing": [{"prompt": "The place of death of Leopold Gray is", "ground_truth": "Oslo"}],
    },
    "locality": {"Relation_Specificity": [{"prompt": ["The father of Leo Gray is"], "ground_truth": ["Max Gray"]}]},
}
WIKIBIO: dict[str, Any] = {
    "text": "This is a passage about leo gray. He was a painter.",
    "labels": "He learned from his father.",
    "concept": "leo gray",
    "locality": {
        "Relation_Specificity": [{"prompt": "The field of work of leo gray is", "ground_truth": ["painting"]}]
    },
}
ROWS = {"zsre": ZSRE, "counterfact": COUNTERFACT, "knowedit": KNOWEDIT}


def written(folder: Path, *rows: Any, suffix: str = ".json") -> Path:
    path = folder / f"edits{suffix}"
    lines = [json.dumps(row) for row in rows]
    path.write_text("[" + ",\n".join(lines) + "]" if suffix == ".json" else "\n".join(lines) + "\n", "utf-8")
    return path


def changed(row: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one value set; `path` has its keys with dots between, a digit is a place in an array."""
    found = inner = copy.deepcopy(row)
    *steps, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for step in steps:
        inner = inner[step]
    inner[last] = value
    return found


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_zsre(tmp_path, suffix):
    first, second = read_edits(written(tmp_path, ZSRE, {**ZSRE, "portability": HOP}, suffix=suffix), "zsre")
    question = "Which river feeds Lake Toad?"
    rephrased = ("What is the river that feeds Lake Toad?",)
    locality = (Probe("who built the bridge of sighs", ("Antonio Contin",), "loc"),)
    assert first == EditCase("zsre/1", "Lake Toad", question, "the Frog", "the Eel", rephrased, locality)
    assert second.portability == (Probe("Where does it rise?", ("Mount Fly",), "portability"),)


def test_counterfact(tmp_path):
    nested, flat = read_edits(written(tmp_path, COUNTERFACT, FLAT), "counterfact")
    assert (nested.id, nested.prompt) == ("counterfact/7", "The mother tongue of Ada Poe is")
    assert (nested.subject, nested.target_new, nested.old) == ("Ada Poe", "Dutch", "Irish")
    assert nested.rephrasings == ("It rained. Ada Poe, a native", "Ada Poe spoke the language")
    assert nested.locality == (
        Probe("The mother tongue of Bram Low is", ("Irish",), "neighborhood_prompts"),
        Probe("Jan Vos is a native speaker of", ("Dutch",), "attribute_prompts"),
    )
    asked = (Probe("Bram Low works as", ("a judge",), "locality"),)
    rest = ("Ada Poe works as", "a baker", "a judge", ("Ada Poe is known as",))
    assert flat == EditCase("counterfact/8", "Ada Poe", *rest, asked)


def test_knowedit_in_its_variants(tmp_path):
    rich, bio = read_edits(written(tmp_path, KNOWEDIT, WIKIBIO), "knowedit")
    assert (rich.id, rich.target_new, rich.old) == ("knowedit/1", "Oslo", "Rome")
    assert rich.rephrasings == ("Where did Leo Gray die?",)
    assert rich.portability == (
        Probe("Leo Gray died in the country of", ("Norway", "Norge"), "Reasoning"),
        Probe("The place of death of Leopold Gray is", ("Oslo",), "Subject_Aliasing"),
    )
    assert rich.locality == (Probe("The father of Leo Gray is", ("Max Gray",), "Relation_Specificity"),)
    assert (bio.subject, bio.prompt[:6], bio.target_new, bio.old) == (
        "leo gray",
        "This i",
        "He learned from his father.",
        "",
    )


def test_rows_without_a_target_are_refused_or_dropped(tmp_path):
    path = written(tmp_path, ZSRE, {**ZSRE, "alt": ""})
    with pytest.raises(FactError, match=r"edits.json, line 2, field 'alt of row 2', value '': must not be empty"):
        read_edits(path, "zsre")
    assert [edit.id for edit in read_edits(path, "zsre", drop_empty=True)] == ["zsre/1"]
    hole = changed(KNOWEDIT, "portability.Reasoning.0.ground_truth", [[""]])
    (kept,) = read_edits(written(tmp_path, hole), "knowedit", drop_empty=True)
    assert [probe.kind for probe in kept.portability] == ["Subject_Aliasing"]
    with pytest.raises(FactError, match=r"there are no edits"):
        read_edits(written(tmp_path, {**ZSRE, "alt": " "}), "zsre", drop_empty=True)


@pytest.mark.parametrize(
    ("form", "path", "value", "message"),
    [
        ("zsre", "alt", 5, r"field 'alt of row 1', value 5: must be a string, not int"),
        ("zsre", "answers", [], r"field 'answers of row 1', value \[\]: must hold a string"),
        ("zsre", "rephrased", "x", r"field 'rephrased of row 1', value 'x': unknown field; the fields are subject"),
        ("zsre", "portability", {"New Question": "Why?"}, r"field 'portability.New Answer of row 1', .* missing"),
        ("zsre", "portability", "none", r"field 'portability of row 1', value 'none': must be an object"),
        (
            "counterfact",
            "requested_rewrite.prompt",
            "The tongue is",
            r"requested_rewrite.prompt of row 1.* hold \{\} once",
        ),
        (
            "counterfact",
            "requested_rewrite.target_new",
            "Dutch",
            r"requested_rewrite.target_new of row 1.* be an object",
        ),
        (
            "counterfact",
            "requested_rewrite.target_new.str",
            "",
            r"target_new.str of row 1', value '': must not be empty",
        ),
        (
            "counterfact",
            "neighborhood_prompts.0",
            None,
            r"'neighborhood_prompts of row 1', value None: must be a string",
        ),
        ("knowedit", "locality.Relation_Specificity.0.prompt", ["a?", "b?"], r"\[0\].prompt of row 1.*one question"),
        ("knowedit", "portability.Reasoning", {"prompt": "x"}, r"'portability.Reasoning of row 1'.* must be an array"),
        ("knowedit", "portability.Reasoning.0.ground_truth", [[1850]], r"value 1850: must be a string, not int"),
        ("knowedit", "concept", "Leo", r"field 'concept of row 1', value 'Leo': stands beside 'subject'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, form, path, value, message):
    with pytest.raises(FactError, match=message):
        read_edits(written(tmp_path, changed(ROWS[form], path, value)), form)


@pytest.mark.parametrize(
    ("form", "field"), [("zsre", "src"), ("counterfact", "requested_rewrite"), ("knowedit", "prompt")]
)
def test_a_missing_field_is_named(tmp_path, form, field):
    row = {name: value for name, value in ROWS[form].items() if name != field}
    with pytest.raises(FactError, match=r"row 1'"):
        read_edits(written(tmp_path, row), form)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FactError, match="field 'case_id of row 2', value 7: an earlier row has this id"):
        read_edits(written(tmp_path, COUNTERFACT, COUNTERFACT), "counterfact")
    with pytest.raises(FactError, match="line 1, field 'record of row 1', value 3: must be an object"):
        read_edits(written(tmp_path, 3), "zsre")
    with pytest.raises(FactError, match=r"line 2, field 'record'.*not valid JSON"):
        path = written(tmp_path, ZSRE, suffix=".jsonl")
        path.write_text(path.read_text("utf-8") + "{", "utf-8")
        read_edits(path, "zsre")
    with pytest.raises(ValueError, match=r"edits are read from .json or .jsonl files, not from '.csv'"):
        read_edits(tmp_path / "edits.csv", "zsre")
    with pytest.raises(ValueError, match=f"form 'mquake' is not one of {', '.join(FORMS)}"):
        read_edits(tmp_path / "edits.json", "mquake")
