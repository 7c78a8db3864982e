"""Entropy, similarity and sampling against hand values, brute force and the package's own losses."""

import math
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from learned import Learned
from tiny_memory import memory_model

from mome.facts.fact import Fact
from mome.lm.encoding import answer_ids
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.lm.losses import fact_losses
from mome.replication.paper.fig3_entropy.experiment import (
    Watched,
    answer_distributions,
    blank,
    draw_likeness,
    entropy,
    kinds_of_answers,
    mean_likeness,
    observe,
    panel,
    sampled_answers,
)


def logs(*rows: list[float]) -> numpy.ndarray:
    with numpy.errstate(divide="ignore"):
        return numpy.maximum(numpy.log(numpy.array(rows)), -1e9)  # a zero probability, kept finite


# --- closed forms --------------------------------------------------------------------------------------------------


def test_entropy_by_hand():
    """ln 8 for eight equal tokens, 1.5 ln 2 for 1/2 1/4 1/4, nothing for a certain one."""
    assert abs(entropy(logs([0.125] * 8))[0] - 3 * math.log(2)) < 1e-9
    assert abs(entropy(logs([0.5, 0.25, 0.25]))[0] - 1.5 * math.log(2)) < 1e-9
    assert entropy(logs([0.0, 1.0, 0.0]))[0] == 0


def test_likeness_by_hand():
    """Two tokens at a cosine of 0.6: whatever their probabilities, two different draws are those two."""
    embeddings = numpy.array([[2.0, 0.0], [0.6, 0.8]])
    found = draw_likeness(logs([0.5, 0.5], [0.9, 0.1]), embeddings)
    assert numpy.allclose(found["within"], 0.6, rtol=0, atol=1e-9)
    assert numpy.allclose(found["differ"], [0.5, 0.18], rtol=0, atol=1e-9)
    assert numpy.allclose(found["between"], 0.6, rtol=0, atol=1e-9)


def test_likeness_by_brute_force():
    generator = numpy.random.default_rng(0)
    p, embeddings = generator.dirichlet(numpy.ones(7), size=4), generator.normal(size=(7, 3))
    embeddings[5] = 0  # such as a fresh model's embedding of the padding
    lengths = numpy.linalg.norm(embeddings, axis=1)
    lengths[5] = 1
    cosines = embeddings @ embeddings.T / numpy.outer(lengths, lengths)

    def expected(first: int, second: int) -> float:
        pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
        chances = [p[first, i] * p[second, j] for i, j in pairs]
        return sum(c * cosines[pair] for c, pair in zip(chances, pairs, strict=True)) / sum(chances)

    found = draw_likeness(numpy.log(p), embeddings)
    between = [numpy.mean([expected(one, other) for other in range(4) if other != one]) for one in range(4)]
    assert numpy.allclose(found["within"], [expected(one, one) for one in range(4)], rtol=0, atol=1e-9)
    assert numpy.allclose(found["between"], between, rtol=0, atol=1e-9)
    assert numpy.allclose(found["differ"], 1 - (p**2).sum(axis=1), rtol=0, atol=1e-9)


def test_likeness_of_a_certain_distribution_is_nothing():
    found = draw_likeness(logs([1.0, 0.0], [1.0, 0.0]), numpy.eye(2))
    assert numpy.allclose(found["differ"], 1e-12) and numpy.allclose(found["within"], 0)


def test_mean_likeness_is_weighted_and_inside_its_interval():
    generator = numpy.random.default_rng(1)
    cosines, differ = generator.uniform(0.1, 0.3, 40), generator.uniform(0, 1, 40)
    value, low, high = mean_likeness(cosines, differ)
    assert abs(value - numpy.average(cosines, weights=differ)) < 1e-9
    assert 0.1 < low < value < high < 0.3
    assert mean_likeness(cosines, differ) == (value, low, high)
    assert abs(mean_likeness([0.2, 0.9], [1.0, 1e-12])[0] - 0.2) < 1e-9


# --- distributions of a model --------------------------------------------------------------------------------------


def test_distributions_give_the_losses_of_the_package(random_backbone: Backbone, facts: list[Fact]):
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    found = answer_distributions(model, tokenizer, facts)
    for fact, rows, losses in zip(facts, found, fact_losses(model, tokenizer, facts), strict=True):
        ids = answer_ids(tokenizer, fact)
        assert rows.shape == (len(ids), len(tokenizer)) and ids[-1] == tokenizer.eos_token_id
        assert numpy.allclose(numpy.exp(rows.astype(float)).sum(axis=1), 1, atol=1e-4)
        # bf16 products differ in the last bit with the width of the padding
        assert numpy.allclose([-rows[place, token] for place, token in enumerate(ids)], losses, rtol=0.02, atol=0.1)


def test_memory_experts_are_chosen_by_the_question_alone(random_backbone: Backbone, facts: list[Fact]):
    model = memory_model(random_backbone)
    masks: list[torch.Tensor] = []
    found = answer_distributions(_Spy(model, masks), random_backbone.tokenizer, facts[:2])
    for mask, fact in zip(masks[0], facts[:2], strict=True):
        asked = random_backbone.tokenizer(f"Q: {fact.question}\nA:")["input_ids"]
        assert int(mask.sum()) == len(asked)
    assert len(found) == 2


class _Spy:
    """A model that notes the prompt masks it is given."""

    reads_prompt_mask = True

    def __init__(self, model: Any, masks: list[torch.Tensor]) -> None:
        self.model, self.masks, self.device = model, masks, model.device

    def __call__(self, **inputs: Any) -> Any:
        self.masks.append(inputs["prompt_mask"])
        return self.model(**inputs)


def test_sampling_repeats_by_seed_and_leaves_the_global_state_alone(random_backbone: Backbone, facts: list[Fact]):
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sampled_answers(model, tokenizer, facts[:2], 3, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert [len(answers) for answers in first] == [3, 3]
    assert sampled_answers(model, tokenizer, facts[:2], 3, seed=0) == first
    assert sampled_answers(model, tokenizer, facts[:2], 3, seed=1) != first


def test_samples_come_from_the_whole_distribution(random_backbone: Backbone):
    """A fresh model is almost even: of 400 first tokens more than the usual 50 most likely ones must occur."""
    even, fact = blank(random_backbone, seed=0), Fact("a", "Who?", "x")
    answers = sampled_answers(even.model, even.tokenizer, [fact], 400, seed=0)[0]
    assert len(set(answers)) > 150


def test_a_memorized_answer_is_sampled(learned: Learned, random_backbone: Backbone, facts: list[Fact]):
    assert all(exact(learned.model, random_backbone.tokenizer, facts))
    drawn = sampled_answers(learned.model, random_backbone.tokenizer, facts, 8, seed=0)
    chance = [math.exp(-losses.sum()) for losses in fact_losses(learned.model, random_backbone.tokenizer, facts)]
    right = [
        numpy.mean([answer == fact.answer for answer in answers]) for answers, fact in zip(drawn, facts, strict=True)
    ]
    noise = 4 * math.sqrt(sum(c * (1 - c) for c in chance) / 8) / len(facts) + 0.02
    assert abs(numpy.mean(right) - numpy.mean(chance)) < noise


# --- what is observed ----------------------------------------------------------------------------------------------


def test_a_fresh_model_has_the_shape_but_not_the_weights(random_backbone: Backbone):
    fresh, again, other = (blank(random_backbone, seed) for seed in (0, 0, 1))
    names = dict(random_backbone.model.named_parameters())
    assert {name: value.shape for name, value in fresh.model.named_parameters()} == {
        name: value.shape for name, value in names.items()
    }
    weights = [each.model.get_input_embeddings().weight for each in (fresh, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not any(value.requires_grad for value in fresh.model.parameters()) and not fresh.model.training


@pytest.fixture
def watched(
    random_backbone: Backbone, facts: list[Fact], made_up_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Watched:
    monkeypatch.setenv("MOME_ROOT", str(made_up_root))
    return Watched.choose(random_backbone, facts)


def test_the_key_token_is_the_hardest_one(watched: Watched, random_backbone: Backbone, facts: list[Fact]):
    losses = fact_losses(random_backbone.model, random_backbone.tokenizer, facts)
    for place, loss, of_fact in zip(watched.places, watched.losses, losses, strict=True):
        assert place < len(of_fact) - 1, "the end of sequence is no key token"
        assert of_fact[place] > of_fact[:-1].max() - 0.1 and abs(loss - of_fact[place]) < 0.1
    ordered = sorted(watched.losses)
    assert watched.losses[watched.middle()] == ordered[len(ordered) // 2]


def test_kinds_are_the_tokens_of_a_relations_answers(
    random_backbone: Backbone, facts: list[Fact], made_up_root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MOME_ROOT", str(made_up_root))
    kinds = kinds_of_answers(random_backbone.tokenizer, {"year"})
    years = [answer_ids(random_backbone.tokenizer, fact)[:-1] for fact in facts if fact.relation == "year"]
    assert kinds == {"year": sorted({token for ids in years for token in ids})}


def test_what_is_observed_of_a_model_that_knows(learned: Learned, watched: Watched, random_backbone: Backbone):
    tuned = Backbone("tuned", learned.model, random_backbone.tokenizer)
    rows, before = (pandas.DataFrame(observe(each, watched, 4, seed=0)) for each in (tuned, random_backbone))
    losses = fact_losses(learned.model, random_backbone.tokenizer, watched.facts)
    assert numpy.allclose(rows["total"], [values.sum() for values in losses], rtol=0.02, atol=0.05)
    assert (rows["loss"] <= rows["total"] + 1e-4).all() and rows["right"].all() and not before["right"].any()
    assert numpy.allclose(numpy.exp(-rows["loss"]), rows["largest"], atol=1e-3), "the right token is the likely one"
    assert rows["entropy"].mean() < before["entropy"].mean() / 4
    assert rows["sampled"].mean() < 0.5 < before["sampled"].min()
    counts = {relation: len(ids) for relation, ids in watched.kinds.items()}
    expected = [(counts[fact.relation] - 1) / (len(random_backbone.tokenizer) - 1) for fact in watched.facts]
    assert numpy.allclose(rows["kind_by_chance"], expected, rtol=0, atol=1e-9)
    assert rows["kind"].between(0, 1).all()


def test_the_kind_is_the_share_beside_the_right_token(watched: Watched, random_backbone: Backbone, facts: list[Fact]):
    row = observe(random_backbone, watched, 1, seed=0)[3]
    rows = answer_distributions(random_backbone.model, random_backbone.tokenizer, facts)[3]
    p = numpy.exp(rows[watched.places[3]].astype(float))
    gold = answer_ids(random_backbone.tokenizer, facts[3])[watched.places[3]]
    others = [p[token] for token in watched.kinds[facts[3].relation] if token != gold]
    assert abs(row["kind"] - sum(others) / (1 - p[gold])) < 1e-9


# --- panels and the figure -----------------------------------------------------------------------------------------


def test_a_panel_always_shows_the_right_token(learned: Learned, random_backbone: Backbone, facts: list[Fact]):
    tuned = Backbone("tuned", learned.model, random_backbone.tokenizer)
    found = panel("tuned", tuned, facts[0], 0, samples=8, seed=0, most=3)
    assert (found.right, len(found.tokens), found.samples) == (0, 3, 8) and found.wrong < 8
    assert found.probabilities == sorted(found.probabilities, reverse=True)
    assert abs(found.loss + math.log(found.probabilities[0])) < 1e-6
    other = panel("before", random_backbone, facts[0], 0, samples=2, seed=0, most=3)
    assert (other.right, len(other.tokens)) == (3, 4), "the right token comes last where it is not likely"
