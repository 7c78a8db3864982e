"""Editing single facts: what is asked for happens, nothing else moves, and it can be taken back bit for bit."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_editing import CAT, CODE, KEY, answers_of, make_memory, same_state, state
from tiny_memory import UNRELATED, tuner

from mome.adapter.selection import Routes
from mome.facts.fact import Fact
from mome.facts.typing_variations import trained_typings
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.memory.editing.holdings import EditError
from mome.memory.memory import Memory


def bank_of(memory: Memory) -> Any:
    return tuner(memory.backbone.model).bank


def untouched(memory: Memory, ids: set[int]) -> bool:
    """Whether every table of the bank is zero in these rows."""
    return not any(table[sorted(ids)].any() for table in bank_of(memory).tables.values())


# --- the null key ----------------------------------------------------------------------------------------------------


def test_the_null_key_rises_with_the_facts_and_comes_back(memory: Memory, start: dict[str, Any]) -> None:
    router, editor = tuner(memory.backbone.model).router, memory.editor
    assert editor is not None and editor.out_of_scope is not None
    queries, bars = editor.out_of_scope.queries.double(), [router.min_score]
    for number, question in enumerate([*UNRELATED[:2], "Is it raining?"]):
        fact = Fact(f"like/{number}", question.replace("?", " today?"), "yes")
        last = memory.add(fact).number
        highest = float(
            (queries @ router.anchors.queries.double().T).max()
        )  # brute force: no out-of-scope question may pass
        bars.append(router.min_score)
        assert bars[-1] >= bars[-2] and (bars[-1] > highest or highest == pytest.approx(bars[-1], abs=1e-6))
        assert not any(answer.recognized for answer in memory.ask_all(UNRELATED))
        assert answers_of(memory, fact) == ["yes"]
    assert bars[-1] > bars[0]
    memory.delete("like/0")
    assert router.min_score == bars[-1]  # what did not pass does not pass now
    memory.rollback(last - 1)
    assert router.min_score == bars[-2]
    memory.rollback(0)
    assert same_state(state(memory), start) and tuner(memory.backbone.model).settings.min_score == bars[0]


def test_without_out_of_scope_questions_the_null_key_stays(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = tuner(memory.backbone.model).router
    monkeypatch.setattr(memory.editor, "out_of_scope", None)
    before = router.min_score
    memory.add(Fact("like", UNRELATED[0].replace("?", " today?"), "yes"))
    assert router.min_score == before


# --- add, update, delete -------------------------------------------------------------------------------------------


def test_an_added_fact_is_answered_in_every_wording_and_no_other_row_or_anchor_moves(
    memory: Memory, start: dict[str, Any], facts: list[Fact]
) -> None:
    others = memory.ask_all([*UNRELATED, *(fact.question for fact in facts)])
    done = memory.add(CAT)
    assert answers_of(memory, CAT) == [CAT.answer] * 3 and memory.facts == [*facts, CAT]
    assert memory.ask_all([*UNRELATED, *(fact.question for fact in facts)])[4:] == others[4:]
    after, count = state(memory), len(start["owners"])
    for name in ("anchors/queries", "anchors/ids", "anchors/weights"):
        assert torch.equal(after["tensors"][name][:count], start["tensors"][name])
    own = {row for row in after["rows"][CAT.id] if not any(row in start["rows"][fact.id] for fact in facts)}
    kept = [place for place, row in enumerate(after["tensors"]["ids"].tolist()) if row not in own]
    for name, values in start["tensors"].items():
        assert name.startswith("anchors/") or torch.equal(after["tensors"][name][kept], values)
    assert (done.kind, done.before, done.after, done.rows, done.repaired) == ("add", None, "Tom", len(own), ())


def test_an_updated_fact_has_the_new_answer_alone_and_keeps_its_place(memory: Memory, facts: list[Fact]) -> None:
    new = replace(facts[2], answer="Lima")
    done = memory.update(new)
    assert answers_of(memory, new) == ["Lima", "Lima"] and memory.facts == [*facts[:2], new, *facts[3:]]
    assert (done.before, done.after) == (facts[2].answer, "Lima")
    assert [answers_of(memory, fact) for fact in facts if fact.id != new.id] == [
        [fact.answer] * 2 for fact in facts if fact.id != new.id
    ]


def test_an_update_may_ask_in_other_words_and_the_rows_of_the_old_ones_are_untouched_again(
    memory: Memory, start: dict[str, Any], facts: list[Fact]
) -> None:
    new = replace(CODE, id=facts[0].id, answer="Tehran")
    memory.update(new)
    after = state(memory)
    used = {row for rows in after["rows"].values() for row in rows}
    assert memory.find(CODE.question) == new and answers_of(memory, new) == ["Tehran"]
    assert untouched(memory, set(start["rows"][new.id]) - used)


def test_adding_a_fact_and_deleting_it_leaves_no_trace(memory: Memory, start: dict[str, Any]) -> None:
    memory.add(KEY)
    assert not same_state(state(memory), start)
    memory.delete(KEY.id)
    assert same_state(state(memory), start)


def test_a_deleted_fact_falls_to_the_backbone_and_its_rows_are_untouched_unless_others_use_them(
    memory: Memory, start: dict[str, Any], facts: list[Fact], random_backbone: Backbone
) -> None:
    gone, rest = facts[0], facts[1:]
    used = {row for fact in rest for row in start["rows"][fact.id]}
    done = memory.delete(gone.question)
    answers = memory.ask_all(gone.wordings())
    assert not any(answer.recognized for answer in answers)
    assert gone.answer not in [answer.text for answer in answers] and not done.backbone_knows
    assert memory.facts == rest and [answers_of(memory, fact) for fact in rest] == [[fact.answer] * 2 for fact in rest]
    assert untouched(memory, set(start["rows"][gone.id]) - used) and set(start["rows"][gone.id]) - used
    kept = set(start["rows"][gone.id]) & used
    assert all(bank_of(memory).steps[sorted(kept)] > 0)


def test_a_deleted_question_that_resembles_anothers_does_not_get_its_answer(memory: Memory, facts: list[Fact]) -> None:
    mome = tuner(memory.backbone.model)
    least = mome.router.min_score
    mome.set_min_score(-1.0)  # everything resembles something
    try:
        memory.delete(facts[0].id)
        assert [answer.recognized for answer in memory.ask_all([facts[0].question, facts[1].question])] == [False, True]
        memory.add(facts[0])  # its anchors without experts give way
        assert answers_of(memory, facts[0]) == [facts[0].answer] * 2
        assert None not in memory.editor.holdings.owners  # type: ignore[union-attr]
    finally:
        mome.set_min_score(least)


def test_the_last_fact_can_be_deleted_and_another_one_added(memory: Memory, facts: list[Fact]) -> None:
    for fact in facts:
        memory.delete(fact.id)
    assert memory.facts == [] and len(bank_of(memory).touched()) == 0
    memory.add(CODE)
    assert memory.ask(CODE.question).text == CODE.answer


# --- many edits, and back ------------------------------------------------------------------------------------------


def random_edit(memory: Memory, draw: random.Random, spare: list[Fact]) -> None:
    """An add, update, delete or rollback that can be made."""
    held = memory.facts
    kind = draw.choice(["add", "update", "update", "delete", "rollback"])
    if kind == "rollback":
        memory.rollback(draw.randrange(len(memory.history()) + 1))
    elif kind == "delete" and len(held) > 2:
        memory.delete(draw.choice(held).id)
    elif kind == "add" and (free := [fact for fact in spare if fact.id not in {one.id for one in held}]):
        memory.add(draw.choice(free))
    else:
        memory.update(replace(draw.choice(held), answer=draw.choice([fact.answer for fact in spare])))


def test_after_30_random_edits_every_earlier_state_comes_back_bit_for_bit(memory: Memory, facts: list[Fact]) -> None:
    draw, first = random.Random(0), len(memory.history())
    states = [state(memory)]
    for _ in range(30):
        random_edit(memory, draw, [*facts, CODE])
        states.append(state(memory))
        check_maps(memory)
    assert {done.kind for done in memory.history()[first:]} == {"add", "update", "delete", "rollback"}
    for number in draw.sample(range(31), 31):
        done = memory.rollback(first + number)
        assert same_state(state(memory), states[number])
        assert memory.history()[-1] == done and done.to == first + number
    check_maps(memory)
    for fact in memory.facts:
        assert answers_of(memory, fact) == [fact.answer] * (1 + len(fact.phrasings))


def check_maps(memory: Memory) -> None:
    """The maps from rows to facts against the anchors, counted anew."""
    held, router = memory.editor.holdings, tuner(memory.backbone.model).router  # type: ignore[union-attr]
    users: dict[int, set[str]] = {}
    for owner, ids in zip(held.owners, router.anchors.ids.tolist(), strict=True):
        for row in ids if owner is not None else []:
            users.setdefault(row, set()).add(owner)
    assert held.users == users
    assert held.rows.keys() == {fact.id for fact in memory.facts}
    touched = set(bank_of(memory).touched().tolist())
    assert touched <= users.keys()


def test_rows_in_bfloat16_come_back_as_well(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]
) -> None:
    memory = make_memory(random_backbone, backbone_folder, facts[:2], dtype="bfloat16")
    before = state(memory)
    memory.update(replace(facts[0], answer="Tehran"))
    assert answers_of(memory, facts[0]) == ["Tehran", "Tehran"]
    memory.rollback(0)
    assert same_state(state(memory), before)


def test_the_same_edits_give_the_same_bits(memory: Memory) -> None:
    found = []
    for _ in range(2):
        memory.rollback(0)
        memory.add(CAT)
        found.append(state(memory))
    assert same_state(*found)


def test_a_fact_of_one_wording_is_added_in_variations_of_typing(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]
) -> None:
    memory = make_memory(random_backbone, backbone_folder, facts)
    assert memory.editor is not None
    asked = trained_typings(CODE.question, 3, 0)
    memory.add(CODE)
    rows = tuner(memory.backbone.model).router.anchors.tensors()
    place = memory.editor.holdings.places(CODE.id)[0]
    routes = Routes(rows["ids"][[place] * 3], rows["weights"][[place] * 3], torch.ones(3))
    mome = tuner(memory.backbone.model)
    with mome.using(mome.select(routes)):
        assert greedy_answers(mome.model, memory.backbone.tokenizer, asked) == [CODE.answer] * 3


# --- many facts on few experts -------------------------------------------------------------------------------------


def test_facts_that_share_every_row_are_trained_along_and_none_is_lost(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]
) -> None:
    memory = make_memory(random_backbone, backbone_folder, facts[:4], num_experts=16, top_k=8)
    memory.update(replace(facts[0], answer="Tehran"))
    done = memory.add(facts[4])
    assert [answers_of(memory, fact) for fact in memory.facts] == [[fact.answer] * 2 for fact in memory.facts]
    assert any(edit.repaired for edit in memory.history()) and done.after == facts[4].answer


def test_an_edit_that_would_cost_another_fact_is_refused_and_nothing_has_changed(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]
) -> None:
    memory = make_memory(random_backbone, backbone_folder, facts[:4], num_experts=16, top_k=16)
    assert memory.editor is not None
    memory.editor.training |= {"epochs": 8, "repairs": 1}
    before = state(memory)
    with pytest.raises(EditError, match=f"fact '{KEY.id}': cannot be memorized beside the 4 facts that share"):
        memory.add(KEY)
    assert same_state(state(memory), before) and memory.history() == []
