"""Cached states: a step on them equals the step through the whole model; what hides and shifts them keeps to bounds."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy
import pytest
import torch
from tiny_memory import learn, memorize, memory_model, settings, tuner

from mome.adapter.selection import Routes
from mome.facts.fact import Fact
from mome.lm.decoder import without_layers
from mome.lm.loading import Backbone
from mome.lm.losses import answer_losses
from mome.train.anchoring import Rows, route_facts
from mome.train.states import FactStates, by_length

Step = tuple[torch.Tensor, dict[str, torch.Tensor]]


def loaded(model: Any, backbone: Backbone, rows: Rows, chosen: Sequence[int], **changes: Any) -> FactStates:
    """Cached states of the chosen rows."""
    states = FactStates(tuner(model), rows.encoded, backbone.tokenizer.pad_token_id, settings(**changes))
    states.load(chosen)
    return states


def step(model: Any, rows: Rows, states: FactStates, chosen: list[int], cached: bool) -> Step:
    """Losses and the rows' gradients of one training step."""
    mome = tuner(model)
    model.train()
    selection = mome.select(Routes(rows.ids[chosen], rows.weights[chosen], torch.ones(len(chosen))))
    batch, entering, attended = states.draw(chosen, numpy.random.default_rng(0))
    upper = without_layers(mome.model, 0, mome.first_layer)
    with mome.using(selection):
        losses = answer_losses(upper, batch, entering, attended) if cached else answer_losses(model, batch)
    losses.sum().backward()
    model.eval()
    gradients = {name: row.grad for name, row in mome.blocks.pop().rows.items() if row.grad is not None}
    return losses.detach(), gradients


def test_a_step_on_cached_states_equals_the_step_through_the_whole_model(
    random_backbone: Backbone, facts: list[Fact], full_precision: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mome.train.states.multiply_bf16", lambda device: nullcontext())
    model = memory_model(random_backbone)
    learn(model, random_backbone, facts)
    memorize(model, random_backbone, facts, settings(epochs=2, repairs=0))  # so that b is not zero, and a has gradients
    tuner(model).router.anchors.forget()
    rows = route_facts(model, random_backbone.tokenizer, facts, 2)
    states, chosen = loaded(model, random_backbone, rows, range(len(rows.encoded))), [0, 5, 6, 11]
    cached, whole = (step(model, rows, states, chosen, cached) for cached in (True, False))
    torch.testing.assert_close(cached[0], whole[0], rtol=1e-5, atol=1e-5)
    assert cached[1].keys() == whole[1].keys() == tuner(model).bank.shapes.keys()
    for name, gradient in whole[1].items():
        a, b = tuner(model).bank.split(name, gradient)
        assert a.any() and b.any()
        torch.testing.assert_close(cached[1][name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_loading_replaces_what_was_cached_and_repeats_its_bits(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    rows = route_facts(model, random_backbone.tokenizer, facts, 1)
    states = loaded(model, random_backbone, rows, [1, 4, 6])
    first = {row: values.clone() for row, values in states.states.items()}
    assert sorted(first) == [1, 4, 6]
    assert [len(first[row]) for row in (1, 4, 6)] == [len(rows.encoded[row].ids) for row in (1, 4, 6)]
    states.load([0, 2])
    assert sorted(states.states) == [0, 2]
    states.load([1, 4, 6])
    assert all(torch.equal(states.states[row], values) for row, values in first.items())


def test_a_drawn_batch_holds_the_cached_states_where_the_tokens_are(
    random_backbone: Backbone, facts: list[Fact]
) -> None:
    model = memory_model(random_backbone)
    rows = route_facts(model, random_backbone.tokenizer, facts, 1)
    states = loaded(model, random_backbone, rows, range(8))
    batch, entering, attended = states.draw([3, 0, 7], numpy.random.default_rng(0))
    assert torch.equal(attended, batch.mask)
    for place, row in enumerate([3, 0, 7]):
        assert torch.equal(entering[place, batch.mask[place].bool()], states.states[row])
        assert not entering[place, ~batch.mask[place].bool()].any()


def test_noise_has_the_asked_size_and_follows_the_generator(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    rows = route_facts(model, random_backbone.tokenizer, facts, 1)
    clean = loaded(model, random_backbone, rows, range(8)).draw([0, 1, 2], numpy.random.default_rng(0))[1]
    noisy = loaded(model, random_backbone, rows, range(8), state_noise=0.25)
    drawn = [noisy.draw([0, 1, 2], numpy.random.default_rng(seed))[1] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    there = clean.any(dim=2)
    sizes = [values[there].square().mean(dim=1).sqrt() for values in (drawn[0] - clean, clean)]
    assert float((sizes[0] / sizes[1]).mean()) == pytest.approx(0.25, rel=0.05)
    assert not drawn[0][~there].any()


def test_only_prompt_tokens_are_hidden_and_never_the_last(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    rows = route_facts(model, random_backbone.tokenizer, facts, 1)
    states = loaded(model, random_backbone, rows, range(8), prompt_dropout=1.0)
    generator, hidden = numpy.random.default_rng(0), 0
    for _ in range(20):
        batch, _, attended = states.draw(range(8), generator)
        lost = (batch.mask - attended).bool()
        hidden += int(lost.sum())
        assert bool((attended <= batch.mask).all())
        assert not (lost & ~batch.prompt).any()
        assert all(not lost[row, batch.prompt[row].nonzero().max()] for row in range(8))
    shares = hidden / (20 * int(batch.prompt.sum() - 8))
    assert shares == pytest.approx(0.5, abs=0.1)  # each row's share is uniform up to the largest


def test_rows_are_batched_by_length(random_backbone: Backbone, facts: list[Fact]) -> None:
    rows = route_facts(memory_model(random_backbone), random_backbone.tokenizer, facts * 20, 1)
    parts = by_length(range(len(rows.encoded)), rows.encoded)
    lengths = [len(rows.encoded[row].ids) for part in parts for row in part]
    assert sorted(row for part in parts for row in part) == list(range(len(rows.encoded)))
    assert lengths == sorted(lengths)
    assert max(map(len, parts)) == 64
