"""Loss, last word, divergence and bits of passages against one pass for each, in f64."""

import copy
import math

import pytest
import torch
from tiny_memory import learn, memorize, memory_model, tuner

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.lm.prompts.form import QUESTION_ANSWER
from mome.replication.damage.passages import divergence, read_passages, same_bits
from mome.replication.damage.sets import Item

TEXTS = (
    "Where is the capital of Peru?\nIn Lima, they say, and not in Mali",
    "Who wrote Emma? Nobody knows",
    "What is it, then? It is Walden, or Ulysses, or Dracula, one of those. I wonder which",
)
ITEMS = [
    Item(str(place), text) for place, text in enumerate([*TEXTS, *(f"{text} {n}" for n in range(3) for text in TEXTS)])
]


@pytest.fixture
def tuned(backbone: Backbone) -> Backbone:
    """The backbone with other weights."""
    torch.manual_seed(3)
    for parameter in backbone.model.get_decoder().layers.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05 * parameter.std())
    return backbone


@torch.no_grad()
def exactly(backbone: Backbone, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [T, V] f64 of a text that is read alone, and its ids."""
    ids = torch.tensor(backbone.tokenizer(text)["input_ids"])
    return copy.deepcopy(backbone.model).double()(input_ids=ids[None]).logits[0].log_softmax(dim=-1), ids


def test_every_measure_is_that_of_a_pass_of_its_own(random_backbone: Backbone, tuned: Backbone) -> None:
    _, states = read_passages(random_backbone.model, random_backbone.tokenizer, ITEMS)
    table, _ = read_passages(tuned.model, tuned.tokenizer, ITEMS, states)
    assert table["item"].tolist() == [item.id for item in ITEMS]
    for row, item in zip(table.to_dict("records"), ITEMS, strict=True):
        ours, ids = exactly(tuned, item.text)
        theirs, _ = exactly(random_backbone, item.text)
        losses = -ours[:-1].gather(1, ids[1:, None]).squeeze(1)
        last = len(ids) - len(tuned.tokenizer(item.text.rpartition(" ")[0])["input_ids"])
        kl = (theirs.exp() * (theirs - ours)).sum(dim=1)[:-1].mean()
        assert row["tokens"] == len(ids) - 1
        assert row["loss"] == pytest.approx(float(losses.mean()), abs=1e-5)
        assert row["last_loss"] == pytest.approx(float(losses[-last:].sum()), abs=1e-5)
        assert row["last_right"] == bool((ours[:-1][-last:].argmax(dim=1) == ids[-last:]).all())
        assert row["kl"] == pytest.approx(float(kl), rel=1e-3)
    assert table["kl"].min() > 1e-3  # or nothing was compared


def test_a_model_does_not_diverge_from_itself_and_has_its_own_bits(random_backbone: Backbone, tuned: Backbone) -> None:
    before, states = read_passages(random_backbone.model, random_backbone.tokenizer, ITEMS)
    again, _ = read_passages(random_backbone.model, random_backbone.tokenizer, ITEMS, states)
    assert before["kl"].isna().all()
    assert (again["kl"] == 0).all()
    assert same_bits(before, again)["same"].all() and same_bits(before, again, "last_bits")["same"].all()
    other, _ = read_passages(tuned.model, tuned.tokenizer, ITEMS)
    assert not same_bits(before, other)["same"].any()


def test_one_changed_bit_is_seen(backbone: Backbone) -> None:
    before, _ = read_passages(backbone.model, backbone.tokenizer, ITEMS[:2])
    weight = backbone.model.get_decoder().norm.weight
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    after, _ = read_passages(backbone.model, backbone.tokenizer, ITEMS[:2])
    assert not same_bits(before, after)["same"].any()


def test_experts_are_chosen_by_the_passage_without_its_last_word(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    learn(model, random_backbone, facts)
    memorize(model, random_backbone, facts)
    first = facts[0]
    asked = [Item("known", f"{QUESTION_ANSWER.format(question=first.question)} {first.answer.split()[0]}"), *ITEMS[:3]]
    before, states = read_passages(random_backbone.model, random_backbone.tokenizer, asked)
    after, _ = read_passages(model, random_backbone.tokenizer, asked, states)
    assert not same_bits(before, after)["same"][0]
    assert after["kl"][0] > 0
    assert after["last_right"][0] and after["last_loss"][0] < min(0.5, before["last_loss"][0])
    tuner(model).set_min_score(1.1)  # now no question is recognized
    silent, _ = read_passages(model, random_backbone.tokenizer, asked, states)
    assert same_bits(before, silent)["same"].all() and (silent["kl"] == 0).all()


def test_the_divergence_of_two_coins() -> None:
    first, second = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    wanted = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert divergence(first, second).tolist() == pytest.approx([wanted], abs=1e-6)
    assert divergence(first, second).dtype == torch.float64
    assert divergence(second, second).tolist() == [0.0]


def test_a_single_word_and_missing_states_are_refused(random_backbone: Backbone) -> None:
    asked = (random_backbone.model, random_backbone.tokenizer)
    with pytest.raises(ValueError, match="more than one word"):
        read_passages(*asked, [Item("x", "Lima")])
    with pytest.raises(ValueError, match="'0': needs the backbone's states"):
        read_passages(*asked, ITEMS[:1], {"1": torch.zeros(3, 32)})
    with pytest.raises(ValueError, match="same passages"):
        first, _ = read_passages(*asked, ITEMS[:1])
        second, _ = read_passages(*asked, ITEMS[1:2])
        same_bits(first, second)
