"""A conversation: the last question is routed by itself, the backbone reads the turns before it."""

import copy
from pathlib import Path

import pytest
from tiny_editing import exchange_rows, make_memory, tuner
from tiny_memory import UNRELATED

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.facts.strict import FactError
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.memory.answers import backbone_answers
from mome.memory.checking import ABSTENTION
from mome.memory.conversation import Conversation
from mome.memory.editing.editor import Editor
from mome.memory.editing.out_of_scope import OutOfScope
from mome.memory.memory import Memory
from mome.train.attach import attach_mome
from mome.train.experts import memorize_facts
from mome.train.settings import MemorySettings

LONGEST = 12


@pytest.fixture
def memory(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    return make_memory(random_backbone, backbone_folder, facts)


@pytest.fixture
def talk(memory: Memory) -> Conversation:
    return Conversation(memory, longest=LONGEST)


def test_a_memorized_question_is_answered_from_memory_after_any_turns(talk: Conversation, facts: list[Fact]) -> None:
    for question in UNRELATED[:2]:
        talk.ask(question, lambda piece: None)
    for fact in facts:
        pieces: list[str] = []
        answer = talk.ask(fact.question, pieces.append)
        assert (answer.text, answer.memorized, answer.label) == (fact.answer, True, "memorized, score 1.00")
        assert "".join(pieces) == fact.answer
    assert talk.turns[-1] == (facts[-1].question, facts[-1].answer)


def test_another_question_is_answered_by_the_backbone_which_has_read_the_turns(
    talk: Conversation, memory: Memory, facts: list[Fact]
) -> None:
    talk.ask(facts[0].question, lambda piece: None)
    pieces: list[str] = []
    answer = talk.ask(UNRELATED[0], pieces.append)
    assert (answer.source, answer.recognized, "".join(pieces)) == ("backbone", False, answer.text)
    mome = tuner(memory.backbone.model)
    with mome.using(None):
        tokenizer = memory.backbone.tokenizer
        after = greedy_answers(mome.model, tokenizer, [UNRELATED[0]], LONGEST, [(facts[0].question, facts[0].answer)])
    assert [answer.text] == after != backbone_answers(memory.backbone, [UNRELATED[0]], LONGEST)


def test_the_backbones_own_answer_stands_beside_a_memorized_one(
    talk: Conversation, memory: Memory, facts: list[Fact]
) -> None:
    assert talk.own(lambda piece: None) is None  # nothing was asked
    talk.ask(facts[0].question, lambda piece: None)
    pieces: list[str] = []
    own = talk.own(pieces.append)
    assert [own] == backbone_answers(memory.backbone, [facts[0].question], LONGEST) and own != facts[0].answer
    assert "".join(pieces) == own and len(talk.turns) == 1


def test_an_answer_that_is_not_the_facts_is_not_shown_as_if_it_were(memory: Memory, facts: list[Fact]) -> None:
    exchange_rows(memory, facts[0], facts[1])
    for choice, expected in (("abstain", ABSTENTION), ("stored", facts[0].answer)):
        pieces: list[str] = []
        answer = Conversation(memory, choice).ask(facts[0].question, pieces.append)
        assert (answer.text, answer.memorized) == (expected, False)
        assert facts[0].answer.startswith("".join(pieces)) and "".join(pieces) != facts[0].answer


def test_a_question_typed_otherwise_is_read_as_the_memorized_one(talk: Conversation, facts: list[Fact]) -> None:
    answer = talk.ask(facts[0].question.lower().rstrip("?"), lambda piece: None)
    assert (answer.text, answer.read_as) == (facts[0].answer, facts[0].question)


def test_the_oldest_turns_are_left_out_where_the_context_ends(talk: Conversation, monkeypatch) -> None:
    talk.turns = [(f"Question {place}?", "yes") for place in range(20)]
    model = talk.memory.backbone.model
    monkeypatch.setattr(model.config, "max_position_embeddings", 120)
    kept = talk._fitting("Why?", talk.turns)
    assert 0 < len(kept) < 20 and kept == talk.turns[-len(kept) :]


@pytest.mark.parametrize("question", ["", " Who?", "x" * 3_000])
def test_what_cannot_be_asked_is_refused_and_leaves_no_turn(talk: Conversation, question: str) -> None:
    with pytest.raises(FactError, match="terminal, line 1, field 'question'"):
        talk.ask(question, lambda piece: None, file="terminal")
    assert talk.turns == []


def test_an_unknown_choice_is_refused(memory: Memory) -> None:
    with pytest.raises(ValueError, match="when_wrong 'guess': must be one of abstain, backbone, stored"):
        Conversation(memory, "guess")  # type: ignore[arg-type]


def test_the_real_model_is_taught_a_fact_and_talks_about_other_things(
    smollm2: Backbone,
) -> None:
    model = attach_mome(Backbone(smollm2.name, copy.deepcopy(smollm2.model), smollm2.tokenizer), MomeConfig(), 0)
    fact = Fact("lamp", "Who tends the lighthouse at Cape Eren?", "Ada Lind")
    others = [*UNRELATED, "Who wrote the novel Emma?", "What is the capital of Spain?"]  # the router is not trained
    run = memorize_facts(model, smollm2.tokenizer, [fact], MemorySettings(), others=others, false_alarms=0.0)
    assert run.failed == []
    attached = Backbone(smollm2.name, model.eval(), smollm2.tokenizer)
    out_of_scope = OutOfScope.read(model, smollm2.tokenizer, others, 0.0)
    talk = Conversation(Memory(attached, editor=Editor.start(attached, [fact], out_of_scope=out_of_scope)), longest=24)
    first, second = [], []
    answer = talk.ask("What is the capital of France?", first.append)
    assert answer.source == "backbone" and "Paris" in answer.text and "".join(first) == answer.text
    assert talk.ask(fact.question, second.append).memorized and "".join(second) == "Ada Lind"
    own = talk.own(lambda piece: None)
    assert own is not None and "Ada Lind" not in own
