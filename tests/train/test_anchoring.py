"""The questions of facts as anchors of the router: shared experts, and the null key that keeps others out."""

from dataclasses import replace

import pytest
import torch
from pretend_gpu import pretended_gpu
from tiny_memory import UNRELATED, equal, learn, logits, memorize, memory_model, tuner

from mome.adapter.anchors import HIGHEST_SCORE
from mome.adapter.queries import question_queries
from mome.facts.fact import Fact
from mome.facts.typing_variations import trained_typings
from mome.lm.encoding import encode_question
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.train.anchoring import route_facts, set_null_key


def test_all_wordings_of_a_fact_share_its_experts(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    rows = route_facts(model, random_backbone.tokenizer, facts, 2)
    assert rows.owners == [number for number in range(len(facts)) for _ in range(2)]
    assert rows.by_fact() == {number: [2 * number, 2 * number + 1] for number in range(len(facts))}
    assert torch.equal(rows.ids[::2], rows.ids[1::2])
    assert torch.equal(rows.weights[::2], rows.weights[1::2])
    assert len({tuple(row) for row in rows.ids.tolist()}) == len(facts)


@pytest.mark.parametrize("snap", [False, True])
def test_inference_takes_the_experts_that_are_trained(snap: bool, random_backbone: Backbone, facts: list[Fact]) -> None:
    model, tokenizer = memory_model(random_backbone, snap=snap), random_backbone.tokenizer
    rows = route_facts(model, tokenizer, facts, 2)
    asked = [text for fact in facts for text in fact.wordings(2)]
    for text, ids, weights in zip(asked, rows.ids, rows.weights, strict=True):
        logits(model, random_backbone, [text])
        selection = tuner(model).selection
        assert selection is not None
        # by the keys alone, rounding (training reads questions in bf16, here f32 does) may move the last experts
        assert len({*selection.routes.ids[0].tolist()} & {*ids.tolist()}) >= (8 if snap else 6)
        torch.testing.assert_close(selection.routes.weights[0].sum(), weights.sum())


def test_without_snap_each_wording_routes_by_itself(random_backbone: Backbone, facts: list[Fact]) -> None:
    model, tokenizer = memory_model(random_backbone, snap=False), random_backbone.tokenizer
    rows = route_facts(model, tokenizer, facts, 2)
    texts = [text for fact in facts for text in (fact.question, fact.phrasings[0])]
    ids, weights = tuner(model).router.select(question_queries(model, tokenizer, texts))
    assert torch.equal(rows.ids, ids)
    assert torch.equal(rows.weights, weights)
    assert not torch.equal(rows.ids[::2], rows.ids[1::2])


def test_only_as_many_wordings_are_tuned_as_there_are(random_backbone: Backbone, facts: list[Fact]) -> None:
    rows = route_facts(memory_model(random_backbone), random_backbone.tokenizer, facts, 9)
    held_out = {encode_question(random_backbone.tokenizer, fact.held_out[0], fact.answer) for fact in facts}
    assert len(rows.encoded) == sum(1 + len(fact.phrasings) for fact in facts)
    assert held_out.isdisjoint(rows.encoded)


@pytest.mark.parametrize("false_alarms", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_null_key_lets_the_asked_share_pass(
    false_alarms: float, random_backbone: Backbone, facts: list[Fact]
) -> None:
    model, tokenizer = memory_model(random_backbone), random_backbone.tokenizer
    route_facts(model, tokenizer, facts[:1], 1)
    others = [f"What is the {word} of {fact.held_out[0]}" for fact in facts for word in ("size", "color", "name")][:20]
    set_null_key(model, tokenizer, others, false_alarms)
    least = tuner(model).settings.min_score
    assert least is not None
    assert tuner(model).router.min_score == least
    scores, _ = tuner(model).router.anchors.recognize(question_queries(model, tokenizer, others))
    assert len(scores.unique()) == len(others)
    assert float((scores >= least).float().mean()) == pytest.approx(false_alarms)


def test_a_memorized_question_passes_even_if_it_is_among_the_others(
    random_backbone: Backbone, facts: list[Fact]
) -> None:
    model, tokenizer = memory_model(random_backbone), random_backbone.tokenizer
    route_facts(model, tokenizer, facts, 1)
    questions = [fact.question for fact in facts]
    set_null_key(model, tokenizer, questions, 0.0)
    assert tuner(model).settings.min_score == HIGHEST_SCORE
    scores, _ = tuner(model).router.anchors.recognize(question_queries(model, tokenizer, questions))
    assert bool((scores >= HIGHEST_SCORE).all())


def test_behind_the_null_key_the_backbone_answers_bit_for_bit(random_backbone: Backbone, facts: list[Fact]) -> None:
    untouched = logits(random_backbone.model, random_backbone, UNRELATED)
    model = memory_model(random_backbone, num_experts=16, index="flat")
    learn(model, random_backbone, facts)
    memorize(model, random_backbone, facts, others=UNRELATED, false_alarms=0.0)
    assert equal(logits(model, random_backbone, UNRELATED), untouched)
    assert exact(model, random_backbone.tokenizer, facts) == [True] * len(facts)
    tuner(model).set_min_score(None)
    assert not equal(logits(model, random_backbone, UNRELATED), untouched)


def test_variations_of_typing_have_the_experts_of_their_fact_and_no_anchors(
    random_backbone: Backbone, facts: list[Fact]
) -> None:
    model, tokenizer = memory_model(random_backbone), random_backbone.tokenizer
    mixed = [replace(facts[0], phrasings=()), facts[1]]
    rows = route_facts(model, tokenizer, mixed, 2, typings=4, seed=5)
    assert rows.by_fact() == {0: [0, 3, 4, 5, 6], 1: [1, 2]}  # a fact of two wordings gets none
    typed = [encode_question(tokenizer, text, facts[0].answer) for text in trained_typings(facts[0].question, 4, 5)]
    assert rows.encoded[3:] == typed
    assert all(torch.equal(rows.ids[row], rows.ids[0]) for row in range(3, 7))
    plain = memory_model(random_backbone)
    route_facts(plain, tokenizer, mixed, 2)
    assert torch.equal(tuner(model).router.anchors.queries, tuner(plain).router.anchors.queries)


def test_a_backbone_on_another_device_than_the_tables_memorizes(random_backbone: Backbone, facts: list[Fact]) -> None:
    with pretended_gpu():
        model = memory_model(random_backbone).to("cuda")
        assert model.device.type == "cuda" and tuner(model).router.mean.device.type == "cuda"
        learn(model, random_backbone, facts)
        run = memorize(model, random_backbone, facts[:3], others=UNRELATED, false_alarms=0.01)
        assert run.failed == []
        assert exact(model, random_backbone.tokenizer, facts[:3]) == [True] * 3
        assert {table.device.type for table in tuner(model).bank.tables.values()} == {"cpu"}
