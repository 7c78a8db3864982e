"""Benchmarks: published files and the Hub (mocked only at the network) give equal objects; bad files are refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hub_server import HubServer, card, mmlu_on_hub, truthfulqa_on_hub
from public_files import ROOT, published, write_files

from mome.facts.public_sets import MMLU, TRUTHFULQA, MultipleChoice, mmlu, truthfulqa, truthfulqa_multiple_choice
from mome.facts.strict import FactError


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("benchmarks"))


LOAD_ALL = """
import json, sys
from dataclasses import asdict
from mome.facts.public_sets import mmlu, truthfulqa, truthfulqa_multiple_choice
loaded = {"generation": truthfulqa()}
for targets in ("mc1", "mc2"):
    loaded[targets] = truthfulqa_multiple_choice(targets=targets)
for split in ("test", "dev", "val"):
    loaded[split] = mmlu(split=split)
json.dump({name: [asdict(item) for item in items] for name, items in loaded.items()}, open(sys.argv[1], "w"))
"""


def load_local(folder: Path) -> dict[str, list[dict[str, object]]]:
    loaded = {"generation": truthfulqa(folder / "truthfulqa")}
    for targets in ("mc1", "mc2"):
        loaded[targets] = truthfulqa_multiple_choice(folder / "truthfulqa", targets)
    for split in ("test", "dev", "val"):
        loaded[split] = mmlu(folder / "mmlu", split)
    return json.loads(json.dumps({name: [asdict(item) for item in items] for name, items in loaded.items()}))


def run_fresh(home: Path, url: str, code: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process whose Hub client knows nothing but the given address and an own cache."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = clean | {"HF_HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1"} | settings
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(params=["made-up", "published"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("made_up") if request.param == "made-up" else published()


def test_hub_and_published_files_give_equal_objects(folder: Path, tmp_path: Path) -> None:
    repositories = {
        (TRUTHFULQA.repository, TRUTHFULQA.revision): truthfulqa_on_hub(folder / "truthfulqa"),
        (MMLU.repository, MMLU.revision): mmlu_on_hub(folder / "mmlu"),
    }
    with HubServer(repositories) as hub:
        done = run_fresh(tmp_path / "home", hub.url, LOAD_ALL, str(tmp_path / "loaded.json"))
    assert done.returncode == 0, done.stderr
    from_hub = json.loads((tmp_path / "loaded.json").read_text())
    local = load_local(folder)
    assert from_hub.keys() == local.keys()
    for name, items in local.items():
        assert from_hub[name] == items, name
    assert any(MMLU.revision in request for request in hub.requests)
    # What was fetched once is read again without the Hub.
    again = run_fresh(tmp_path / "home", hub.url, LOAD_ALL, str(tmp_path / "again.json"), HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again.json").read_text()) == from_hub


CALLS = {
    "truthfulqa()": TRUTHFULQA,
    "truthfulqa_multiple_choice()": TRUTHFULQA,
    "mmlu()": MMLU,
}
TELL = """
import sys
from mome.facts.public_sets import *
from mome.facts.public_sets import HubError
for call in sys.argv[1:]:
    try:
        eval(call)
    except HubError as error:
        print(error)
"""


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {}], ids=["offline", "no such repository"])
def test_an_unreadable_hub_is_one_clear_error(tmp_path: Path, settings: dict[str, str]) -> None:
    with HubServer({}) as hub:
        done = run_fresh(tmp_path, hub.url, TELL, *CALLS, **settings)
    assert done.returncode == 0, done.stderr
    messages = done.stdout.strip().splitlines()
    assert len(messages) == len(CALLS)
    for message, source in zip(messages, CALLS.values(), strict=True):
        assert message.startswith(f"could not read {source.repository}@{source.revision}")
        assert message.endswith(f"give the folder of the files as published ({source.published}) as path")


def test_a_broken_file_on_the_hub_is_one_clear_error(tmp_path: Path) -> None:
    files = {"README.md": card({"all": ["test"]}), "all/test-00000-of-00001.parquet": b"not parquet"}
    with HubServer({(MMLU.repository, MMLU.revision): files}) as hub:
        done = run_fresh(tmp_path, hub.url, TELL, "mmlu()")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"could not read {MMLU.repository}@{MMLU.revision}")


def test_the_published_files_load_fully() -> None:
    folder = published()
    questions = truthfulqa(folder / "truthfulqa")
    assert len(questions) == 817
    for targets in ("mc1", "mc2"):
        choices = truthfulqa_multiple_choice(folder / "truthfulqa", targets)
        assert [item.id for item in choices] == [item.id for item in questions]
    for split, size in {"test": 14_042, "val": 1_531, "dev": 285}.items():
        items = mmlu(folder / "mmlu", split)
        assert len(items) == len({item.id for item in items}) == size
        assert len({item.subject for item in items}) == 57
        assert all(len(item.choices) == 4 for item in items)


def test_truthfulqa_cells_survive(made_up: Path) -> None:
    facts = {fact.question: fact for fact in truthfulqa(made_up / "truthfulqa")}
    assert facts.keys() == {"Do pigs fly?", "How old is 007?", "Who wrote it?"}
    assert facts["How old is 007?"].answer == "NA"
    assert facts["How old is 007?"].source == ""
    assert facts["Who wrote it?"].relation == "Law, old"
    assert facts["Who wrote it?"].answer == 'Rene\u0301 "R" Roe'


def test_multiple_choice_keeps_order_and_all_correct_choices(made_up: Path) -> None:
    one = {item.question: item for item in truthfulqa_multiple_choice(made_up / "truthfulqa")}
    several = {item.question: item for item in truthfulqa_multiple_choice(made_up / "truthfulqa", "mc2")}
    assert one["Do pigs fly?"].choices == ("No", "Yes")
    assert one["Do pigs fly?"].answer == 0
    assert several["Who wrote it?"].choices == ("Roe", "R. Roe", "Doe")
    assert several["Who wrote it?"].correct == (0, 1)
    with pytest.raises(ValueError):
        _ = several["Who wrote it?"].answer


def test_mmlu_cells_survive_and_repeated_questions_stay(made_up: Path) -> None:
    items = mmlu(made_up / "mmlu")
    assert [item.subject for item in items] == ["art_history", "astronomy", "astronomy", "astronomy"]
    assert items[1].choices == ("1", "02", "None", "NA")
    assert items[2].question == 'Two\n  lines, "quoted"'
    assert (items[1].question, items[3].question) == ("Why?", "Why?")
    assert len({item.id for item in items}) == 4
    assert [item.answer for item in items] == [0, 1, 3, 2]


def test_mmlu_subjects_are_a_selection(made_up: Path) -> None:
    everything = mmlu(made_up / "mmlu")
    assert mmlu(made_up / "mmlu", subjects=["astronomy"]) == everything[1:]
    assert mmlu(made_up / "mmlu", subjects=["astronomy", "art_history"]) == everything
    with pytest.raises(ValueError, match="no subject 'alchemy'; it has art_history, astronomy"):
        mmlu(made_up / "mmlu", subjects=["alchemy"])


def test_wrong_options_and_folders_are_refused(made_up: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split must be one of test, val, dev"):
        mmlu(made_up / "mmlu", "validation")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="targets must be 'mc1' or 'mc2'"):
        truthfulqa_multiple_choice(made_up / "truthfulqa", "mc3")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no MMLU files"):
        mmlu(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"TruthfulQA\.csv"):
        truthfulqa(tmp_path)


@pytest.fixture
def copy(made_up: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(made_up, tmp_path / "copy"))


# name -> (file, text replaced, its replacement, line, field, part of the value, part of the problem)
BAD_FILES = {
    "csv: column renamed": ("TruthfulQA.csv", "Best Answer", "Answer", 1, "Best Answer", "Answer", "not 0 times"),
    "csv: column twice": ("TruthfulQA.csv", "Type", "Source", 1, "Source", "Source", "not 2 times"),
    "csv: cell missing": ("TruthfulQA.csv", "NA; null,7,", "NA,7", 3, "record", "007", "6 cells"),
    "csv: empty answer": ("TruthfulQA.csv", ",NA,", ",,", 3, "best_answer", "''", "must not be empty"),
    "csv: empty question": ("TruthfulQA.csv", "How old is 007?", "", 3, "question", "''", "must not be empty"),
    "csv: NUL": ("TruthfulQA.csv", "they walk", "they\0walk", 2, "best_answer", "\\x00", "NUL"),
    "csv: question twice": ("TruthfulQA.csv", "Who wrote it?", "How old is 007?", 4, "question", "007", "line 3"),
    "csv: open quote": ("TruthfulQA.csv", ",Roe,Doe", ',"Roe,Doe', 4, "record", "Roe,Doe", "broken CSV"),
    "json: not an array": ("mc_task.json", "[", "", 1, "record", "question", "one JSON array"),
    "json: truncated": ("mc_task.json", '"7": 0', '"7"', 25, "record", "007", "not valid JSON"),
    "json: text after the array": ("mc_task.json", "\n]", "\n] x", 37, "record", "x", "text after"),
    "json: comma before the end": ("mc_task.json", "\n]", ",\n]", 25, "record", "007", "array's end"),
    "json: not an object": ("mc_task.json", "[", "[7,", 1, "record", "7", "JSON object"),
    "json: no question": ("mc_task.json", '"question": "Who', '"query": "Who', 2, "question", "None", "missing"),
    "json: question is a number": ("mc_task.json", '"Who wrote it?"', "7", 2, "question", "7", "must be a string"),
    "json: choice twice": ("mc_task.json", '"R. Roe"', '"Roe"', 2, "Roe", "1", "occurs twice"),
    "json: empty choice": ("mc_task.json", '"Doe"', '" "', 2, "mc2_targets", "''", "must not be empty"),
    "json: label is text": ("mc_task.json", '"Doe": 0', '"Doe": "0"', 2, "mc2_targets", "'0'", "0 or 1"),
    "json: label is true": ("mc_task.json", '"Doe": 0', '"Doe": true', 2, "mc2_targets", "True", "0 or 1"),
    "json: nothing correct": ("mc_task.json", '"No": 1', '"No": 0', 14, "mc2_targets", "0", "0 correct choices"),
    "json: target list": ("mc_task.json", '"mc2_targets"', '"mc2_targets": [], "x"', 2, "mc2_targets", "[]", "0 or 1"),
    "json: question twice": ("mc_task.json", "Who wrote", "Do pigs fly?\", \"x\": \"", 14, "question", "pigs", "twice"),
    "mmlu: five cells": ("astronomy_test.csv", "None,NA", "None", 1, "record", "Why?", "5 cells"),
    "mmlu: letter E": ("astronomy_test.csv", ",D\r", ",E\r", 2, "answer", "E", "must be A, B, C or D"),
    "mmlu: two letters": ("astronomy_test.csv", ",D\r", ",AB\r", 2, "answer", "AB", "must be A, B, C or D"),
    "mmlu: no letter": ("astronomy_test.csv", ",D\r", ",\r", 2, "answer", "''", "must be A, B, C or D"),
    "mmlu: empty choice": ("astronomy_test.csv", ",02,", ",,", 1, "choice B", "''", "must not be empty"),
    "mmlu: line after a line feed": ("astronomy_test.csv", "3,4,C", ",4,C", 4, "choice C", "''", "must not be empty"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "line", "field", "value", "problem"), BAD_FILES.values(), ids=list(BAD_FILES)
)
def test_malformed_files_name_file_line_field_and_value(
    copy: Path, name: str, old: str, new: str, line: int, field: str, value: str, problem: str
) -> None:
    (file,) = copy.rglob(name)
    content = file.read_bytes().decode()
    assert old in content
    file.write_bytes(content.replace(old, new).encode())
    with pytest.raises(FactError) as caught:
        truthfulqa(copy / "truthfulqa")
        truthfulqa_multiple_choice(copy / "truthfulqa", "mc2")
        mmlu(copy / "mmlu")
    error = caught.value
    assert (error.file, error.line, error.field) == (str(file), line, field)
    assert value in repr(error.value)
    assert problem in error.problem


def test_two_correct_choices_are_refused_in_mc1_only(copy: Path) -> None:
    file = copy / "truthfulqa" / "mc_task.json"
    file.write_text(file.read_text().replace('"Yes ": 0', '"Yes ": 1'))
    assert len(truthfulqa_multiple_choice(copy / "truthfulqa", "mc2")) == 3
    with pytest.raises(FactError, match=r"line 14, field 'mc1_targets'.*2 correct choices"):
        truthfulqa_multiple_choice(copy / "truthfulqa", "mc1")


def test_multiple_choice_is_frozen() -> None:
    item = MultipleChoice("a", "Q?", ("x", "y"), (1,), "s", "t")
    assert item.answer == 1
    with pytest.raises(AttributeError):
        item.question = "other"  # type: ignore[misc]
