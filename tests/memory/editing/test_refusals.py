"""Edits that are refused or interrupted: one clear error each, and nothing has changed."""

from dataclasses import replace
from typing import Any

import pytest
from tiny_editing import CAT, CODE, KEY, same_state, state
from tiny_memory import tuner

from mome.facts.fact import Fact
from mome.facts.strict import FactError
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone
from mome.memory.editing.editor import Editor
from mome.memory.editing.holdings import EditError, UnknownFactError, as_tuned
from mome.memory.memory import Memory


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (lambda memory, facts: memory.add(facts[0]), EditError, "this id is held already"),
        (lambda memory, facts: memory.add(replace(facts[0], id="x")), EditError, "'capital/Peru' is already asked as"),
        (lambda memory, facts: memory.update(KEY), UnknownFactError, "fact 'key': there is no fact of this id"),
        (lambda memory, facts: memory.update(replace(facts[0], phrasings=facts[1].phrasings)), EditError, "Mali"),
        (lambda memory, facts: memory.delete("nobody"), UnknownFactError, "fact 'nobody': there is no fact"),
        (lambda memory, facts: memory.add(replace(KEY, answer=" ")), FactError, "field 'answer'"),
        (lambda memory, facts: memory.rollback(10_000), EditError, "rollback: must be the number of an edit"),
        (lambda memory, facts: memory.rollback(-1), EditError, "got -1"),
        (lambda memory, facts: memory.rollback(True), EditError, "got True"),
    ],
)
def test_an_impossible_edit_is_one_clear_error_and_changes_nothing(
    memory: Memory, start: dict[str, Any], facts: list[Fact], change: Any, error: type[Exception], complaint: str
) -> None:
    count = len(memory.history())
    with pytest.raises(error, match=complaint):
        change(memory, facts)
    assert same_state(state(memory), start) and len(memory.history()) == count


def test_a_fact_that_cannot_be_learned_in_time_is_refused(memory: Memory, start: dict[str, Any]) -> None:
    assert memory.editor is not None
    memory.editor.training["epochs"] = 2
    try:
        with pytest.raises(EditError, match="fact 'key': cannot be memorized"):
            memory.add(KEY)
    finally:
        del memory.editor.training["epochs"]
    assert same_state(state(memory), start)


@pytest.mark.parametrize("place", ["_check", "_wrong"])
def test_an_interrupted_edit_changes_nothing(
    memory: Memory, start: dict[str, Any], facts: list[Fact], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Editor, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        memory.update(replace(facts[0], answer="Tehran"))
    assert same_state(state(memory), start)


def test_a_question_the_router_cannot_tell_from_another_is_refused(
    memory: Memory, start: dict[str, Any], facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tuner(memory.backbone.model).router.anchors.queries[:1].clone()
    monkeypatch.setattr("mome.memory.editing.editor.question_queries", lambda *_: taken)
    with pytest.raises(EditError, match="fact 'code': the router cannot tell its question from 'What is the capital"):
        memory.add(CODE)
    assert same_state(state(memory), start)


def test_an_update_that_leaves_the_old_answer_to_a_former_wording_is_refused(
    memory: Memory, start: dict[str, Any], facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Editor._ask

    def stubborn(editor: Editor, questions: list[str], *expected: str) -> Any:
        found = ask(editor, questions, *expected)
        return [
            replace(each, text="Lima") if asked == facts[0].phrasings[0] else each
            for asked, each in zip(questions, found, strict=True)
        ]

    monkeypatch.setattr(Editor, "_ask", stubborn)
    with pytest.raises(EditError, match=r"'Name the capital of Peru\.' would still be answered 'Lima'"):
        memory.update(replace(facts[0], answer="Tehran", phrasings=()))
    assert same_state(state(memory), start)


def test_only_memory_experts_whose_facts_are_known_can_be_edited(
    memory: Memory, random_backbone: Backbone, facts: list[Fact]
) -> None:
    with pytest.raises(EditError, match="the facts of this adapter are not known"):
        replace(memory, editor=None).add(CODE)
    with pytest.raises(EditError, match="only memory experts can be edited"):
        Editor.start(random_backbone, facts)
    with pytest.raises(EditError, match="the facts have 21 anchors, the adapter has 24"):
        Editor.start(memory.backbone, facts[1:])
    with pytest.raises(EditError, match="fact 'capital/Mali': the adapter has no anchor for its question"):
        Editor.start(memory.backbone, [facts[1], facts[0], *facts[2:]])


def test_phrasings_that_were_not_tuned_are_held_out() -> None:
    assert as_tuned(CAT, 2) == replace(CAT, phrasings=CAT.phrasings[:1], held_out=("The cat is?", *CAT.phrasings[1:]))
    assert as_tuned(CAT, 3) == CAT


def test_damage_found_on_the_way_back_leaves_the_state_as_it_was(
    memory: Memory, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory.editor is not None
    first = len(memory.history())
    for fact in facts[:3]:
        memory.delete(fact.id)
    before, read = state(memory), memory.editor.journal.read

    def damaged(number: int) -> Any:
        if number == first + 1:
            raise CheckpointError("damaged")
        return read(number)

    monkeypatch.setattr(memory.editor.journal, "read", damaged)
    with pytest.raises(CheckpointError):
        memory.rollback(first)
    assert same_state(state(memory), before) and len(memory.history()) == first + 3
