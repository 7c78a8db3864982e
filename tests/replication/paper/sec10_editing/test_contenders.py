"""Every method of editing takes an edit, and comes back from it bit for bit; seeds and settings reach all of them."""

import math
from dataclasses import replace

import pytest
import torch

from mome.adapter.model import MomeModel, mome_model
from mome.lm.generation import greedy_answers
from mome.replication.paper.sec10_editing.contenders import (
    METHODS,
    EditingPlan,
    Experts,
    Passages,
    RankOne,
    Weights,
    contender,
)
from mome.replication.paper.sec10_editing.stream import ADD, UPDATE, Stream, StreamEdit


@pytest.fixture
def plan() -> EditingPlan:
    tuning = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
    memory = {"epochs": 2, "repairs": 0, "wordings": 2, "prompt_dropout": 0.0, "state_noise": 0.0}
    rome = {"layer": 0, "prefixes": 1, "steps": 2}
    sizes = {"mome": {"num_experts": 1024}, "router": {"steps": 2, "batch_size": 8}, "router_questions": 48}
    sizes |= {"reader": tuning, "exercises": 8}
    return EditingPlan().but(
        full=tuning, lora=tuning, adapter={"rank": 2}, edit_epochs=2, memory=memory, rome=rome, **sizes
    )


@pytest.fixture
def small(facts) -> Stream:
    changed = replace(facts[0], answer="Quito")
    return Stream(
        facts[:4], [StreamEdit(UPDATE, changed, "Lima"), StreamEdit(ADD, facts[5], "")], facts[1:4], facts[6:]
    )


@pytest.fixture
def root(small_root, monkeypatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(small_root))


@pytest.mark.parametrize("make", [Weights.lora, Weights.full, RankOne])
def test_weights_come_back_bit_for_bit(root, make, backbone_folder, small, plan):
    method = make(str(backbone_folder), small, plan)
    before = {name: values.clone() for name, values in method.model.named_parameters()}
    restore = method.mark()
    for edit in small.edits:
        assert method.apply(edit)
    changed = [name for name, values in method.model.named_parameters() if not torch.equal(values, before[name])]
    assert changed and (make is RankOne) == (changed == ["model.layers.0.mlp.down_proj.weight"])
    restore()
    assert all(torch.equal(values, before[name]) for name, values in method.model.named_parameters())
    assert method.apply(small.edits[1])  # a fact that was added and taken back can be added again


def everything(mome: MomeModel) -> dict[str, torch.Tensor]:
    anchors = {f"anchors/{name}": values for name, values in mome.router.anchors.tensors().items()}
    return {**mome.bank.members(), **anchors}


def test_experts_come_back_bit_for_bit_and_a_refused_edit_is_said(root, backbone_folder, small, plan):
    method = Experts(str(backbone_folder), small, plan)
    mome = mome_model(method.model)
    assert mome is not None
    before = everything(mome)
    restore = method.mark()
    taken = [method.apply(edit) for edit in small.edits]
    assert not method.apply(StreamEdit(UPDATE, replace(small.edits[1].fact, id="nobody's"), ""))
    restore()
    after = everything(mome)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert len(method.memory.facts) == 4 and len(taken) == 2


@pytest.mark.parametrize("make", [Passages, Passages.index])
def test_a_passage_is_found_once_it_is_added_and_the_backbone_answers_the_rest(
    root, make, backbone_folder, small, plan
):
    method = make(str(backbone_folder), small, plan)
    changed, added = small.edits
    restore = method.mark()
    assert method.apply(changed) and method.apply(added)
    found = [passages[0] for passages in method.retrieval.find([changed.fact.question, added.fact.question])[0]]
    assert found == [changed.fact, added.fact]
    asked = [edit.fact.question for edit in small.edits]
    assert make is Passages or method.answer(asked) == [edit.fact.answer for edit in small.edits]
    restore()
    (first, second), _ = method.retrieval.find([changed.fact.question, added.fact.question])
    assert first == [small.held[0]] and added.fact not in second
    method.retrieval.least = math.inf
    questions = [fact.question for fact in small.general]
    assert method.answer(questions) == greedy_answers(method.plain.model, method.plain.tokenizer, questions)


def test_an_unknown_method_is_refused(small, plan):
    with pytest.raises(ValueError, match=f"method 'memit' is not one of {', '.join(METHODS)}"):
        contender("memit", "unread", small, plan)


def test_a_seed_reaches_every_part():
    seeded = EditingPlan().seeded(5)
    assert {seeded.seed, seeded.full.seed, seeded.lora.seed, seeded.router.seed, seeded.rome.seed} == {5}
