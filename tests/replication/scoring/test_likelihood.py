"""Log-likelihoods against f64, one row at a time; memory experts are chosen by the context alone."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from asked_questions import ROCKS, SEA, questions
from chat_templates import chatting
from tiny_memory import MEMORY, memorize, memory_model, settings, tuner

from mome.facts.fact import Fact
from mome.lm.decoder import states_before
from mome.lm.encoding import Encoded, encode_question
from mome.lm.loading import Backbone, load_backbone
from mome.lm.losses import row_losses
from mome.replication.scoring.likelihood import encode_pair, fit, log_likelihoods, longest_input
from mome.replication.scoring.multiple_choice import Asked, ask_mmlu, ask_truthfulqa, score

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def experts(random_backbone: Backbone, facts: list[Fact]) -> Backbone:
    """The random backbone with few memory experts, all of them trained: which ones are chosen shows in every score."""
    model = memory_model(random_backbone, num_experts=64, top_k=8, snap=False)
    memorize(model, random_backbone, facts, settings(**{**MEMORY.model_dump(), "epochs": 6}))
    return Backbone("experts", model, random_backbone.tokenizer)


@pytest.fixture(scope="module")
def exact_model(random_backbone: Backbone) -> Any:
    """The random backbone in f64."""
    return copy.deepcopy(random_backbone.model).double()


def encoded(backbone: Backbone, asked: Sequence[Asked]) -> list[Encoded]:
    longest = longest_input(backbone.model)
    return [encode_pair(backbone.tokenizer, one.context, text, longest) for one in asked for text in one.continuations]


@torch.no_grad()
def alone(model: Any, row: Encoded, **inputs: Any) -> float:
    """The log-likelihood of one row without padding, token by token."""
    logits = model(input_ids=torch.tensor([row.ids]), **inputs).logits[0].double()
    places = range(len(row.ids) - row.answer_tokens, len(row.ids))
    return sum(float(logits[place - 1].log_softmax(dim=0)[row.ids[place]]) for place in places)


# --- tokens --------------------------------------------------------------------------------------------------------


def test_a_pair_is_one_text_cut_where_the_context_ends(random_backbone: Backbone) -> None:
    tokenizer = random_backbone.tokenizer
    row = encode_pair(tokenizer, "Q: Where?\nA:", " Lima", 64)
    assert list(row.ids) == tokenizer("Q: Where?\nA: Lima")["input_ids"]
    assert tokenizer.decode(row.ids[-row.answer_tokens :]) == " Lima"
    assert encode_pair(tokenizer, "Q: Where?\nA: ", "Lima", 64) == row


@pytest.mark.parametrize(("text", "found"), [("", 0), (" Lima" * 40, "[0-9]+")])
def test_a_choice_without_tokens_or_with_too_many_is_refused(text: str, found: int, random_backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=rf"^choice '.*': {found} tokens, must be 1 to 20$"):
        encode_pair(random_backbone.tokenizer, "Q: Where?\nA:", text, 20)


def test_a_long_text_loses_its_beginning() -> None:
    assert fit(Encoded(tuple(range(10)), 2), 9) == Encoded(tuple(range(10)), 2)
    assert fit(Encoded(tuple(range(10)), 2), 5) == Encoded((4, 5, 6, 7, 8, 9), 2)
    assert fit(Encoded(tuple(range(10)), 5), 5) == Encoded((4, 5, 6, 7, 8, 9), 5)


# --- log-likelihoods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 4, 64])
def test_scores_are_those_of_f64_in_any_batch(batch_rows: int, random_backbone: Backbone, exact_model: Any) -> None:
    rows = encoded(random_backbone, questions())
    found, known = log_likelihoods(random_backbone.model, random_backbone.tokenizer, rows, batch_rows)
    numpy.testing.assert_allclose(found, [alone(exact_model, row) for row in rows], atol=2e-4, rtol=0)
    assert known is None and len({len(row.ids) for row in rows}) > 8 and max(found) - min(found) > 20


def test_scores_do_not_depend_on_the_side_of_the_padding(random_backbone: Backbone) -> None:
    """The same rows padded on the right, as the harness has them, without an attention mask."""
    rows = encoded(random_backbone, questions(2))
    found, _ = log_likelihoods(random_backbone.model, random_backbone.tokenizer, rows)
    padded = torch.zeros(len(rows), max(len(row.ids) for row in rows), dtype=torch.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row.ids)] = torch.tensor(row.ids)
    with torch.no_grad():
        scores = random_backbone.model(padded).logits.log_softmax(dim=-1)
    for value, row, each in zip(found, rows, scores, strict=True):
        start, stop = len(row.ids) - row.answer_tokens, len(row.ids)
        right = sum(float(each[place - 1, row.ids[place]]) for place in range(start, stop))
        assert value == pytest.approx(right, abs=2e-4)


def test_truncated_rows_are_scored_as_if_they_began_there(random_backbone: Backbone, exact_model: Any) -> None:
    whole = encoded(random_backbone, questions())
    rows = [fit(row, 30) for row in whole]
    assert sum(len(row.ids) > 31 for row in whole) > len(whole) / 2
    found, _ = log_likelihoods(random_backbone.model, random_backbone.tokenizer, rows)
    numpy.testing.assert_allclose(found, [alone(exact_model, row) for row in rows], atol=2e-4, rtol=0)


def test_a_context_is_read_once(random_backbone: Backbone, exact_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, read = encoded(random_backbone, [ask_mmlu(ROCKS), ask_mmlu(SEA)]), []
    rows, forward = [*rows, rows[0]], random_backbone.model.forward
    monkeypatch.setattr(random_backbone.model, "forward", lambda **given: read.append(given) or forward(**given))
    found, _ = log_likelihoods(random_backbone.model, random_backbone.tokenizer, rows)
    assert [len(given["input_ids"]) for given in read] == [2, 8]
    assert read[0]["input_ids"].shape[1] > 50 and read[1]["input_ids"].shape[1] < 5
    numpy.testing.assert_allclose(found, [alone(exact_model, row) for row in rows], atol=2e-4, rtol=0)
    assert len(set(found)) == 8 and found[8] == found[0]


def test_many_continuations_are_read_in_parts_of_similar_length(
    random_backbone: Backbone, exact_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, read = encoded(random_backbone, questions(14)), []
    forward = random_backbone.model.forward
    monkeypatch.setattr(random_backbone.model, "forward", lambda **given: read.append(given) or forward(**given))
    found, _ = log_likelihoods(random_backbone.model, random_backbone.tokenizer, rows, batch_rows=len(rows))
    shapes = [tuple(given["input_ids"].shape) for given in read]
    assert [count for count, _ in shapes] == [14, 32, 32, 6]
    assert shapes[1][1] < shapes[2][1] <= shapes[3][1]
    numpy.testing.assert_allclose(found, [alone(exact_model, row) for row in rows], atol=2e-4, rtol=0)


def test_a_sliding_window_moves_over_context_and_choices() -> None:
    backbone = load_backbone("tiny-mistral", "cpu")
    rows = encoded(backbone, [ask_truthfulqa(ROCKS)])
    assert min(len(row.ids) for row in rows) > 3 * backbone.model.config.sliding_window
    found, _ = log_likelihoods(backbone.model, backbone.tokenizer, rows)
    exact_model = copy.deepcopy(backbone.model).double()
    numpy.testing.assert_allclose(found, [alone(exact_model, row) for row in rows], atol=2e-4, rtol=0)


# --- memory experts ------------------------------------------------------------------------------------------------


@torch.no_grad()
def with_experts_of_the_context(model: Any, row: Encoded) -> float:
    """The reference: experts are chosen in a pass that sees the context and nothing else."""
    mome, ids = tuner(model), torch.tensor([row.ids[: -row.answer_tokens]])
    mask = torch.ones_like(ids)
    states = states_before(mome.model, mome.settings.router_layer, ids, mask, mask.cumsum(dim=1) - 1)
    selection = mome.select(mome.router.route(mome.router.query(states, mask.bool())))
    with mome.using(selection):
        return alone(model, row)


@pytest.mark.parametrize(("batch_rows", "asked"), [(1, 5), (7, 5), (64, 8)])
def test_experts_are_chosen_by_the_context_alone(batch_rows: int, asked: int, experts: Backbone) -> None:
    rows = encoded(experts, questions(asked))
    found, known = log_likelihoods(experts.model, experts.tokenizer, rows, batch_rows)
    expected = [with_experts_of_the_context(experts.model, row) for row in rows]
    numpy.testing.assert_allclose(found, expected, atol=2e-4, rtol=0)
    leaked = [alone(experts.model, row) for row in rows]
    assert sum(abs(one - other) > 0.05 for one, other in zip(leaked, expected, strict=True)) > len(rows) / 2
    assert known == [True] * len(rows)


def test_truncated_rows_are_routed_by_what_is_left_of_the_context(experts: Backbone) -> None:
    rows = [fit(row, 30) for row in encoded(experts, questions())]
    found, _ = log_likelihoods(experts.model, experts.tokenizer, rows)
    expected = [with_experts_of_the_context(experts.model, row) for row in rows]
    numpy.testing.assert_allclose(found, expected, atol=2e-4, rtol=0)


def test_a_question_of_the_null_key_has_the_score_of_the_backbone(experts: Backbone) -> None:
    asked: dict[Any, list[Asked]] = {"truthfulqa_mc2": questions()}
    mome = tuner(experts.model)
    mome.set_min_score(1.1)
    try:
        found = score(experts, asked)["truthfulqa_mc2"]
    finally:
        mome.set_min_score(None)
    with experts.model.disable_adapter():
        plain = score(experts, asked)["truthfulqa_mc2"]
    assert found.log_likelihoods == plain.log_likelihoods
    assert (found.recognized, plain.recognized) == (0.0, None)
    known = score(experts, asked)["truthfulqa_mc2"]
    assert known.recognized == 1.0 and known.log_likelihoods != plain.log_likelihoods


# --- prompt forms --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("full_precision")
def test_a_question_alone_is_asked_in_the_form_of_the_backbone(
    experts: Backbone, random_backbone: Backbone, exact_model: Any
) -> None:
    """Experts are chosen by the words, as the facts' questions were; without experts all is as in f64."""
    chat = chatting(random_backbone.tokenizer)
    asked = [ask_truthfulqa(item, preamble=False) for item in (ROCKS, SEA)]
    rows = [encode_question(chat, one.item.question, choice) for one in asked for choice in one.item.choices]
    for model in (random_backbone.model, experts.model):
        found = score(Backbone("chat", model, chat), {"truthfulqa_mc1": asked})["truthfulqa_mc1"]
        losses = [each[:-1].sum() for each in row_losses(model, chat, rows)]  # the end token is no choice's
        assert numpy.concatenate(found.log_likelihoods) == pytest.approx(-numpy.array(losses), abs=1e-3)
    bare = score(Backbone("chat", random_backbone.model, chat), {"truthfulqa_mc1": asked})["truthfulqa_mc1"]
    whole = [alone(exact_model, replace(row, ids=row.ids[:-1], answer_tokens=row.answer_tokens - 1)) for row in rows]
    assert numpy.concatenate(bare.log_likelihoods) == pytest.approx(whole, abs=1e-3)


def test_what_is_routed_moves_with_the_beginning_that_is_cut() -> None:
    row = Encoded(tuple(range(20)), 4, (2, 12))
    assert fit(row, 19) == row
    assert fit(row, 14) == Encoded(tuple(range(5, 20)), 4, (0, 7))
    assert fit(row, 5) == Encoded(tuple(range(14, 20)), 4, (0, 1))
    assert fit(replace(row, routed=None), 5).routed is None
