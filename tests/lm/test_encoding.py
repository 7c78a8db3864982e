"""Batches: padding and company change no loss; losses are those of a brute-force log-softmax in double precision."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.lm.encoding import Batch, Encoded, collate, encode, encode_question
from mome.lm.loading import Backbone
from mome.lm.losses import answer_losses, multiply_bf16, token_losses
from mome.lm.prompts.form import QUESTION_ANSWER as PROMPT
from mome.replication.pretraining.pretrain import build_model
from mome.replication.pretraining.settings import PRETRAINING

PAIRS = (
    ("Who?", "Me"),
    ("What is the capital of Chile?", "Santiago de Chile"),
    ("In which year did Emma appear?", "1815"),
    ("Repeat K7Q2", "K7Q2" * 8),
)


@pytest.fixture(params=["llama", "mistral"])
def model(request: pytest.FixtureRequest, random_backbone: Backbone) -> torch.nn.Module:
    """A random model; the Mistral's sliding window is shorter than the rows."""
    if request.param == "llama":
        return copy.deepcopy(random_backbone.model)
    settings = PRETRAINING["smoke"].model_copy(update={"architecture": "mistral", "sliding_window": 8})
    model = build_model(settings, random_backbone.tokenizer).requires_grad_(False).eval()
    model.get_input_embeddings().weight.mul_(30)
    return model


@pytest.fixture
def rows(random_backbone: Backbone) -> list[Encoded]:
    return [encode_question(random_backbone.tokenizer, question, answer) for question, answer in PAIRS]


def reference(model: torch.nn.Module, row: Encoded) -> torch.Tensor:
    """Loss of every token but the first of one unpadded row, in double precision and without autocast [T - 1]."""
    logits = copy.deepcopy(model).double()(input_ids=torch.tensor([row.ids])).logits[0].double()
    shifted = logits[:-1] - logits[:-1].logsumexp(dim=1, keepdim=True)
    return torch.stack([-shifted[place, token] for place, token in enumerate(row.ids[1:])])


def real_columns(batch: Batch, losses: torch.Tensor, rows: Sequence[Encoded]) -> list[torch.Tensor]:
    return [losses[index, batch.ids.shape[1] - len(row.ids) :] for index, row in enumerate(rows)]


def test_a_question_is_encoded_as_prompt_answer_and_end(random_backbone: Backbone) -> None:
    tokenizer = random_backbone.tokenizer
    row = encode_question(tokenizer, "Who wrote Emma?", "Jane Austen")
    prompt, answer = row.ids[: -row.answer_tokens], row.ids[-row.answer_tokens :]
    assert prompt[0] == tokenizer.bos_token_id
    assert tokenizer.decode(prompt[1:]) == "Q: Who wrote Emma?\nA:"
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer[:-1]) == " Jane Austen"
    assert row == encode(tokenizer, PROMPT.format(question="Who wrote Emma?"), "Jane Austen")
    assert list(prompt) == tokenizer(PROMPT.format(question="Who wrote Emma?"))["input_ids"]


@st.composite
def encoded_rows(draw: st.DrawFn) -> list[Encoded]:
    lengths = draw(st.lists(st.integers(2, 9), min_size=1, max_size=5))
    return [
        Encoded(tuple(draw(st.integers(1, 99)) for _ in range(length)), draw(st.integers(1, length - 1)))
        for length in lengths
    ]


@settings(max_examples=50, deadline=None)
@given(encoded_rows())
def test_collate_puts_each_row_at_the_right_edge(rows: list[Encoded]) -> None:
    batch = collate(rows, padding=0)
    assert batch.answer_tokens == max(row.answer_tokens for row in rows)
    assert batch.ids.shape == batch.mask.shape == (len(rows), max(len(row.ids) for row in rows))
    assert batch.answer_mask.shape == (len(rows), batch.answer_tokens)
    for index, row in enumerate(rows):
        empty = batch.ids.shape[1] - len(row.ids)
        assert batch.ids[index].tolist() == [0] * empty + list(row.ids)
        assert batch.mask[index].tolist() == [0] * empty + [1] * len(row.ids)
        assert batch.positions[index].tolist() == [0] * empty + list(range(len(row.ids)))
        answers = batch.ids[index, -batch.answer_tokens :][batch.answer_mask[index]]
        assert answers.tolist() == list(row.ids[-row.answer_tokens :])


@pytest.mark.usefixtures("full_precision")
def test_losses_equal_those_of_each_row_alone_in_double_precision(model: torch.nn.Module, rows: list[Encoded]) -> None:
    batch = collate(rows, padding=0)
    found = token_losses(model, batch, batch.ids.shape[1] - 1)
    for row, losses in zip(rows, real_columns(batch, found, rows), strict=True):
        torch.testing.assert_close(losses[-len(row.ids) + 1 :].double(), reference(model, row), atol=1e-4, rtol=1e-5)


def test_losses_in_bf16_stay_near_double_precision(model: torch.nn.Module, rows: list[Encoded]) -> None:
    batch = collate(rows, padding=0)
    found = token_losses(model, batch, batch.ids.shape[1] - 1)
    assert found.dtype == torch.float32
    for row, losses in zip(rows, real_columns(batch, found, rows), strict=True):
        difference = losses[-len(row.ids) + 1 :].double() - reference(model, row)
        assert difference.abs().mean() < 0.1
        assert difference.abs().max() < 0.5


@pytest.mark.usefixtures("full_precision")
def test_a_row_does_not_feel_its_company(model: torch.nn.Module, rows: list[Encoded]) -> None:
    together = answer_losses(model, collate(rows, padding=0))
    reversed_rows = answer_losses(model, collate(rows[::-1], padding=0)).flip(0)
    torch.testing.assert_close(together, reversed_rows, atol=1e-4, rtol=1e-5)
    for index, row in enumerate(rows):
        alone = answer_losses(model, collate([row], padding=0))[0]
        torch.testing.assert_close(together[index, -row.answer_tokens :], alone, atol=1e-4, rtol=1e-5)


def test_what_stands_on_padding_changes_nothing(model: torch.nn.Module, rows: list[Encoded]) -> None:
    batch = collate(rows, padding=0)
    other = replace(batch, ids=torch.where(batch.mask == 1, batch.ids, 7))
    assert not torch.equal(batch.ids, other.ids)
    assert torch.equal(answer_losses(model, batch), answer_losses(model, other))


@pytest.mark.usefixtures("full_precision")
def test_answer_losses_are_zero_outside_the_answers(random_backbone: Backbone, rows: list[Encoded]) -> None:
    batch = collate(rows, padding=0)
    losses = answer_losses(random_backbone.model, batch)
    assert losses.shape == batch.answer_mask.shape
    for index, row in enumerate(rows):
        empty = batch.answer_tokens - row.answer_tokens
        assert losses[index, :empty].tolist() == [0.0] * empty
        expected = reference(random_backbone.model, row)[-row.answer_tokens :].sum()
        torch.testing.assert_close(losses[index].sum().double(), expected, atol=1e-4, rtol=1e-5)


def test_products_are_taken_in_bf16_and_summed_in_f32() -> None:
    """A sum of 4096 ones kept in bf16 would stop at 256, where adding 1 no longer changes it."""
    with multiply_bf16(torch.device("cpu")):
        product = torch.ones(1, 4096) @ torch.ones(4096, 1)
        rounded = torch.tensor([[1 + 2**-12]]) @ torch.ones(1, 1)
    assert product.dtype == torch.bfloat16
    assert product.item() == 4096
    assert rounded.item() == 1
