"""Routing inside the model: by the prompt alone, the same in any company; anchors and the null key."""

from typing import Any

import pytest
import torch
from peft import get_peft_model
from tiny_models import (
    FAMILIES,
    inner,
    make_backbone,
    make_model,
    padded,
    query,
    questions,
    routed,
    settings,
    taught_model,
)

from mome.adapter.router import Router
from mome.lm.loading import load_backbone

pytestmark = pytest.mark.usefixtures("one_thread")


def mixed_questions(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Random questions of 3 to 14 tokens."""
    lengths = torch.randint(3, 15, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [questions(1, length, seed=index)[0] for index, length in enumerate(lengths)]


# --- the same in any company ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("index", ["flat", "product_key"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_question_alone_and_in_a_padded_batch_gets_the_same_experts(family: str, index: str, side: str) -> None:
    model, rows = make_model(family, index=index), mixed_questions(24)
    alone = [routed(model, input_ids=row[None])[0] for row in rows]
    assert len({tuple(ids) for ids in alone}) > 20
    assert routed(model, **padded(rows, side, extra=3)) == alone
    assert routed(model, **padded(rows[::-1], side)) == alone[::-1]


def test_500_questions_to_a_million_experts_are_routed_alike_alone_and_in_batches() -> None:
    model = make_model(num_experts=1_000_000, top_k=32)
    rows = mixed_questions(500)
    alone = [routed(model, input_ids=row[None])[0] for row in rows]
    together = [ids for start in range(0, 500, 50) for ids in routed(model, **padded(rows[start : start + 50], "left"))]
    # one pair of experts may be tied closer than the backbone's own rounding
    assert sum(here != there for here, there in zip(together, alone, strict=True)) <= 1


def test_the_shipped_backbone_routes_questions_alike_alone_and_in_batches() -> None:
    backbone = load_backbone("tiny-llama", "cpu")
    model = get_peft_model(backbone.model, settings(num_experts=65_536, top_k=32, key_size=64, router_layer=2))
    texts = [f"Q: {word}?\nA:" for word in ("Who wrote Emma", "Where is Lima", "What is the capital of Mali", "Why")]
    alone = [routed(model, **backbone.tokenizer(text, return_tensors="pt"))[0] for text in texts]
    for side in ("left", "right"):
        batch = backbone.tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
        assert routed(model, **batch) == alone


# --- by the prompt alone -------------------------------------------------------------------------------------------


def test_answer_tokens_do_not_change_the_experts() -> None:
    model, ids = make_model(), questions(6)
    expected = routed(model, input_ids=ids)
    for seed in (2, 3):
        answers = questions(6, 4, seed)
        tokens = torch.cat([ids, answers], dim=1)
        labels = torch.cat([torch.full_like(ids, -100), answers], dim=1)
        prompt = torch.cat([torch.ones_like(ids), torch.zeros_like(answers)], dim=1)
        assert routed(model, input_ids=tokens, labels=labels) == expected
        assert routed(model, input_ids=tokens, prompt_mask=prompt) == expected
        assert routed(model, input_ids=tokens) != expected


def test_what_follows_an_answer_is_not_prompt() -> None:
    """A later turn has read the answer, so only the labels' first -100s count."""
    model, ids = make_model(), questions(6)
    tokens = torch.cat([ids, questions(6, 4, seed=2), questions(6, 3, seed=3)], dim=1)
    labels = tokens.clone()
    labels[:, :9], labels[:, 13:] = -100, -100
    assert routed(model, input_ids=tokens, labels=labels) == routed(model, input_ids=ids)


def test_padding_is_not_prompt_wherever_its_labels_are() -> None:
    model, rows = make_model(), mixed_questions(6)
    expected = [routed(model, input_ids=row[None])[0] for row in rows]
    for side in ("left", "right"):
        batch = padded([torch.cat([row, questions(1, 2, seed=4)[0]]) for row in rows], side)
        labels = torch.full_like(batch["input_ids"], -100)
        for index, row in enumerate(rows):
            start = labels.shape[1] - 2 if side == "left" else len(row)
            labels[index, start : start + 2] = batch["input_ids"][index, start : start + 2]
        assert routed(model, **batch, labels=labels) == expected


def test_arguments_by_position_count_too() -> None:
    model, batch = make_model(), padded(mixed_questions(4), "left")
    expected = routed(model, **batch)
    with torch.no_grad():
        model.base_model(batch["input_ids"], batch["attention_mask"])
    assert inner(model).selection.routes.ids.sort(dim=1).values.tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": questions(2)}, "row 0 has no prompt token"),
        ({"prompt_mask": torch.tensor([[1] * 9, [0] * 9])}, "row 1 has no prompt token"),
        ({"attention_mask": torch.tensor([[0] * 9, [1] * 9])}, "row 0 has no prompt token"),
        ({"attention_mask": torch.zeros(2, 1, 9, 9)}, r"attention_mask: MoME needs .*\[2, 9\], got \[2, 1, 9, 9\]"),
        ({"prompt_mask": torch.ones(2, 8)}, r"prompt_mask: MoME needs .*\[2, 9\], got \[2, 8\]"),
        ({"attention_mask": {"full_attention": None}}, r"attention_mask: MoME needs .* got dict"),
    ],
)
def test_a_batch_without_a_plain_prompt_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model()(input_ids=questions(2), **arguments)


# --- anchors and the null key --------------------------------------------------------------------------------------


def test_a_question_near_a_memorized_one_gets_exactly_its_experts() -> None:
    model, known = taught_model(num_experts=65_536), questions(4)
    tuner, other = inner(model), questions(4).clone()
    other[:, -1] = 17  # another wording
    own = tuner.router.select(query(model, other))[0].tolist()
    tuner.router.anchor(query(model, known))
    ids, weights = tuner.router.anchors.ids, tuner.router.anchors.weights
    assert own != ids.tolist()
    for rows in (other, known):
        routed(model, **padded([*rows], "right", extra=2))
        assert torch.equal(tuner.selection.routes.ids, ids)
        assert torch.equal(tuner.selection.routes.weights, weights)
    tuner.router.snap = False
    routed(model, input_ids=other)
    assert tuner.selection.routes.ids.tolist() == own


def test_a_question_far_from_all_memorized_ones_gets_the_bits_of_the_backbone() -> None:
    model, known, unknown = taught_model(num_experts=32, top_k=32), questions(4), questions(4, 6, seed=9)
    tuner = inner(model)
    tuner.router.anchor(query(model, known))
    scores = [float(tuner.router.anchors.recognize(query(model, ids))[0].min()) for ids in (known, unknown)]
    nearest = float(tuner.router.anchors.recognize(query(model, unknown))[0].max())
    assert scores[0] > 0.999 and nearest < 0.99
    tuner.set_min_score((nearest + 1) / 2)
    rows = [*known, *unknown]
    with torch.no_grad():
        batch = padded(rows, "left")
        plain, taught = make_backbone()(**batch).logits, model(**batch).logits
        assert torch.equal(taught[4:], plain[4:])
        assert all(not torch.equal(taught[index], plain[index]) for index in range(4))
        assert torch.equal(model(input_ids=unknown).logits, make_backbone()(input_ids=unknown).logits)
        assert inner(model).selection.block is None
        tuner.set_min_score(None)
        assert not torch.equal(model(input_ids=unknown).logits, make_backbone()(input_ids=unknown).logits)


def test_training_goes_by_the_keys_whatever_is_memorized() -> None:
    model, ids = make_model(min_score=0.999), questions(2)
    inner(model).router.anchor(query(model, questions(1, seed=8)))
    expected = inner(model).router.select(query(model, ids))[0]
    model.train()(input_ids=ids)
    assert torch.equal(inner(model).selection.routes.ids.sort(dim=1).values, expected.sort(dim=1).values)
    assert inner(model).selection.routes.weights.min() > 0


def test_using_a_selection_overrules_the_tokens() -> None:
    model, ids = taught_model(), questions(4)
    tuner = inner(model)
    with torch.no_grad():
        first = model(input_ids=ids).logits
        kept = tuner.selection
        with tuner.using(tuner.select(tuner.router.route(query(model, ids.flip(0))))):
            assert not torch.equal(model(input_ids=ids).logits, first)
        with tuner.using(kept):
            assert torch.equal(model(input_ids=ids).logits, first)
        with tuner.using(None):
            assert torch.equal(model(input_ids=ids).logits, make_backbone()(input_ids=ids).logits)
    assert tuner.selection is kept


def test_the_router_stays_in_f32_whatever_the_backbone_is_cast_to() -> None:
    model = make_model()
    before = {name: value.clone() for name, value in inner(model).router.state_dict().items()}
    keys = inner(model).router.index.first.clone()
    model.to(torch.bfloat16)
    assert next(inner(model).model.parameters()).dtype == torch.bfloat16
    assert all(torch.equal(value, before[name]) for name, value in inner(model).router.state_dict().items())
    assert torch.equal(inner(model).router.index.first, keys)
    assert isinstance(inner(model).router, Router)
    assert len(routed(model, input_ids=questions(2))) == 2
