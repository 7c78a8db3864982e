"""`mome edit` changes a saved adapter as asked, and refuses in one line what cannot be done."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_editing import CAT, CODE, TRAINING, answers_of, make_memory
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.fact import Fact, identify
from mome.facts.readers import write_jsonl
from mome.lm.loading import Backbone
from mome.memory.editing import editor
from mome.memory.loading import load_memory


@pytest.fixture(scope="module")
def saved(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    make_memory(random_backbone, backbone_folder, facts).save(folder)
    return folder


@pytest.fixture
def adapter(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to edit, with settings under which the random backbone learns."""
    settings = editor.edit_settings
    monkeypatch.setattr(editor, "edit_settings", lambda fact, **changes: settings(fact, **TRAINING, **changes))
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["edit", *(str(argument) for argument in arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    refusals = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    return done.exit_code, "\n".join([done.stdout.removesuffix("\n"), *refusals]).strip()


def test_facts_are_added_updated_deleted_and_rolled_back(adapter: Path, facts: list[Fact], tmp_path: Path) -> None:
    assert call("history", adapter) == (0, "no edits")
    code, output = call("add", adapter, CODE.question, CODE.answer)
    assert code == 0 and f"add {identify(CODE.question)}: '{CODE.question}' '7719K'" in output
    code, output = call("update", adapter, facts[0].question, "Tehran")
    assert code == 0 and "'Lima' -> 'Tehran'" in output
    assert answers_of(load_memory(adapter), facts[0]) == ["Tehran", "Tehran"]
    assert call("delete", adapter, facts[1].id)[0] == 0
    code, output = call("rollback", adapter, 1)
    assert code == 0 and "rollback to 1" in output
    assert [fact.answer for fact in load_memory(adapter).facts] == [*(fact.answer for fact in facts), CODE.answer]
    code, output = call("history", adapter)
    assert [line.split()[0] for line in output.splitlines()] == ["1", "2", "3", "4"] and "delete capital/Mali" in output


def test_a_file_of_facts_is_added_one_by_one(adapter: Path, facts: list[Fact], tmp_path: Path) -> None:
    write_jsonl([CODE, CAT], tmp_path / "new.jsonl")
    code, output = call("add", adapter, "--facts", tmp_path / "new.jsonl")
    assert code == 0 and len(output.splitlines()) == 2
    memory = load_memory(adapter)
    assert memory.facts == [*facts, CODE, CAT] and answers_of(memory, CAT) == [CAT.answer] * 3


def test_facts_that_the_backbone_cannot_hold_are_refused_before_any_edit_or_left_out(
    adapter: Path, facts: list[Fact], tmp_path: Path
) -> None:
    unheld = Fact("steps", "How is it done?", "First\nQ: Second")
    write_jsonl([CODE, unheld], tmp_path / "new.jsonl")
    code, output = call("add", adapter, "--facts", tmp_path / "new.jsonl")
    assert code == 2 and "new.jsonl, line 2, field 'answer'" in output and "would come back" in output
    for command in (("add", adapter, "How?", "a\nQ: b"), ("update", adapter, facts[0].question, "a\nQ: b")):
        code, output = call(*command)
        assert code == 2 and "would come back from" in output and output.count("\n") == 0
    assert call("history", adapter) == (0, "no edits")
    code, output = call("add", adapter, "--facts", tmp_path / "new.jsonl", "--unwritable", "leave_out")
    assert code == 0 and "left out: steps (How is it done?): answer 'First\\nQ: Second'" in output
    assert load_memory(adapter).facts == [*facts, CODE]


def test_wordings_and_id_can_be_given(adapter: Path, facts: list[Fact]) -> None:
    assert call("add", adapter, CODE.question, "Lima", "--id", "code", "--phrasing", "The cellar?")[0] == 0
    assert call("update", adapter, "code", "Tehran", "--question", "What opens the cellar?")[0] == 0
    held = load_memory(adapter).find("code")
    assert held == Fact("code", "What opens the cellar?", "Tehran", ("The cellar?",))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("add", "{}", "What is the capital of Peru?", "Lima"), "fact 'capital/Peru' is already asked as"),
        (("add", "{}", "Only a question?"), "add: give a question and its answer, or --facts with a file"),
        (("add", "{}", "Q", "A", "--facts", "x.jsonl"), "add: give a question"),
        (("add", "{}", "--facts", "nowhere.jsonl"), "nowhere.jsonl"),
        (("add", "{}", " ", "A"), "field 'question'"),
        (("update", "{}", "nobody", "x"), "fact 'nobody': there is no fact of this id or question"),
        (("delete", "{}", "nobody"), "fact 'nobody': there is no fact of this id or question"),
        (("rollback", "{}", 3), "rollback: must be the number of an edit, 0 to 0, got 3"),
        (("history", "nowhere"), "nowhere: not an adapter folder"),
        (("delete", "nowhere", "x"), "nowhere: not an adapter folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    adapter: Path, arguments: tuple[object, ...], complaint: str
) -> None:
    code, output = call(*(adapter if each == "{}" else each for each in arguments))
    assert code == 2 and "\n" not in output and output.startswith("error: ") and complaint in output
    assert call("history", adapter) == (0, "no edits")


def test_adapters_that_cannot_be_edited_are_refused(adapter: Path) -> None:
    (adapter / "held.json").unlink()
    for arguments in (("history", adapter), ("delete", adapter, "capital/Peru")):
        code, output = call(*arguments)
        assert code == 2 and "so it is not known which facts" in output
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "LORA"}))
    code, output = call("delete", adapter, "capital/Peru")
    assert code == 2 and "only memory experts can be edited" in output
