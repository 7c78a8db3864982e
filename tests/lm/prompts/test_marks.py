"""What is asked is refused where it cannot be meant, before anything computes: tokens, states, experts, settings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, inner, make_model, query, questions, remembering, settings

from mome.adapter.anchors import least_score
from mome.adapter.bank import BankError
from mome.adapter.selection import Routes
from mome.lm.prompts.marks import check_tokens

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Any:
    """A model that remembers two questions; it stays as it is."""
    return remembering()


def asked(**changes: int) -> torch.Tensor:
    """Two questions with other tokens at some places (`at_3=...`) of the second."""
    ids = questions(2)
    for place, value in changes.items():
        ids[1, int(place.removeprefix("at_"))] = value
    return ids


@pytest.mark.parametrize("way", ["forward", "generate", "decoding", "training"])
@pytest.mark.parametrize("token", [-1, VOCABULARY, 2**40])
def test_tokens_outside_the_vocabulary_are_refused_by_row_and_place(model: Any, way: str, token: int) -> None:
    message = rf"token {token} of row 1 \(place 4\) must lie in \[0, {VOCABULARY}\)"
    with torch.no_grad():
        if way == "forward":
            with pytest.raises(ValueError, match=message):
                model(input_ids=asked(at_4=token))
        elif way == "generate":
            with pytest.raises(ValueError, match=message):
                model.generate(input_ids=asked(at_4=token), max_new_tokens=2)
        elif way == "decoding":
            cache = model(input_ids=asked(), use_cache=True).past_key_values
            with pytest.raises(ValueError, match=rf"token {token} of row 1 \(place 0\)"):
                model(input_ids=asked(at_4=token)[:, 4:5], past_key_values=cache)
    if way == "training":
        with pytest.raises(ValueError, match=message):
            make_model().train()(input_ids=asked(at_4=token))


GIVEN: dict[str, tuple[dict[str, Any], str]] = {
    "no question": ({"input_ids": asked()[:0]}, r"input_ids: must be \[questions, tokens\].* got \[0, 9\]"),
    "no token": ({"input_ids": asked()[:, :0]}, r"input_ids: .* got \[2, 0\]"),
    "a vector": ({"input_ids": asked()[0]}, r"input_ids: .* got \[9\]"),
    "a list": ({"input_ids": asked().tolist()}, "input_ids: .* got list"),
    "floats": ({"input_ids": asked().float()}, "input_ids: must be int64 or int32, got torch.float32"),
    "nothing": ({}, "input_ids: .* none are given"),
    "states of no question": ({"inputs_embeds": torch.zeros(0, 3, 32)}, r"inputs_embeds: .* got \[0, 3, 32\]"),
    "states as a matrix": ({"inputs_embeds": torch.zeros(3, 32)}, r"inputs_embeds: .* got \[3, 32\]"),
    "NaN": ({"inputs_embeds": torch.full((2, 3, 32), torch.nan)}, "question 0 is not finite"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_no_question_is_refused(model: Any, name: str) -> None:
    given, message = GIVEN[name]
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        model(**given)


def test_tokens_within_the_vocabulary_pass() -> None:
    for kind in (torch.int64, torch.int32):
        check_tokens({"input_ids": torch.tensor([[0, VOCABULARY - 1]], dtype=kind)}, VOCABULARY)
    check_tokens({"inputs_embeds": torch.zeros(1, 2, 3)}, VOCABULARY)


@pytest.mark.parametrize("expert", [-1, 1024, 2**40])
def test_experts_outside_the_bank_are_refused(model: Any, expert: int) -> None:
    routes = Routes(torch.tensor([[3, expert]]), torch.ones(1, 2), torch.ones(1))
    with pytest.raises(BankError, match=rf"0\.\.1023, got {expert}"):
        inner(model).select(routes)


CALLS: dict[str, tuple[Callable[[Any, torch.Tensor], Any], str]] = {
    "route NaN": (lambda tuner, queries: tuner.router.route(queries * torch.nan), "question 0 is not finite"),
    "route infinity": (lambda tuner, queries: tuner.router.by_keys(queries / 0), "question 0 is not finite"),
    "route another width": (lambda tuner, queries: tuner.router.route(queries[:, :5]), r"must be \[Q, 16\]"),
    "anchor NaN": (lambda tuner, queries: tuner.router.anchor(queries * torch.nan), "question 0 is not finite"),
    "owners": (lambda tuner, queries: tuner.router.anchor(queries, torch.tensor([0, -1, 0])), "owners: .*-1"),
    "too few owners": (lambda tuner, queries: tuner.router.anchor(queries, torch.tensor([0])), r"owners: .*\[3\]"),
    "spread NaN": (lambda tuner, queries: tuner.router.spread(queries * torch.nan), "not finite"),
    "spread one": (lambda tuner, queries: tuner.router.spread(queries[:1]), "two queries or more, got 1"),
    "a share of 2": (lambda tuner, queries: tuner.router.anchors.threshold(queries, 2.0), "false_alarms .* got 2.0"),
    "a share of NaN": (
        lambda tuner, queries: tuner.router.anchors.threshold(queries, torch.nan),
        "false_alarms .* got nan",
    ),
    "a null key of NaN": (lambda tuner, queries: tuner.set_min_score(torch.nan), "min_score: .* got nan"),
}


@pytest.mark.parametrize("name", CALLS)
def test_queries_and_settings_out_of_range_are_refused_and_change_nothing(model: Any, name: str) -> None:
    call, message = CALLS[name]
    tuner, queries = inner(model), query(model, questions(3))
    before = {**tuner.router.state_dict(), **tuner.router.anchors.tensors()}
    before = {key: value.clone() for key, value in before.items()}
    with pytest.raises(ValueError, match=message):
        call(tuner, queries)
    after = {**tuner.router.state_dict(), **tuner.router.anchors.tensors()}
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert tuner.router.min_score is None


def test_scores_that_are_no_numbers_set_no_null_key() -> None:
    with pytest.raises(ValueError, match="a score is NaN"):
        least_score(torch.tensor([0.5, torch.nan]).numpy(), 0.1)


def test_more_experts_than_can_be_numbered_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="num_experts must be at most 1,099,511,627,776, got"):
        settings(num_experts=2**61 - 1)  # a prime, whose factors would be looked for
