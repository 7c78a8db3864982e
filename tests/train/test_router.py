"""Phase 1: the router learns which wordings belong together; no expert is touched, no held-out wording is read."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_memory import ROUTER, UNRELATED, equal, learn, logits, memory_model, tuner

from mome.adapter.queries import question_queries, question_states
from mome.adapter.router import Router
from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.lm.prompts.form import QUESTION_ANSWER as PROMPT
from mome.train.router import train_router, usage


class Recorder:
    """A tokenizer that remembers what it was asked to encode."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.texts: list[str] = []

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.texts += texts
        return self.tokenizer(texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def bits(router: Router, *names: str) -> list[torch.Tensor]:
    """Copies of some of the router's tensors; of all it learned, by default."""
    return [getattr(router, name).detach().clone() for name in names or ("pool", "project", "mean", "whiten")]


def nearness(model: Any, backbone: Backbone, facts: list[Fact]) -> tuple[float, float]:
    """Cosine and share of experts in common of the question and the first phrasing, mean over the facts."""
    sides = [[fact.question for fact in facts], [fact.phrasings[0] for fact in facts]]
    first, second = (question_queries(model, backbone.tokenizer, side) for side in sides)
    chosen = [tuner(model).router.select(queries)[0].tolist() for queries in (first, second)]
    shared = [len({*one} & {*other}) / len(one) for one, other in zip(*chosen, strict=True)]
    return float((first * second).sum(dim=1).mean()), sum(shared) / len(shared)


def test_the_experts_stay_untouched_and_the_backbone_keeps_its_bits(
    random_backbone: Backbone, facts: list[Fact]
) -> None:
    model = memory_model(random_backbone)
    asked = [facts[0].question, *UNRELATED]
    learn(model, random_backbone, facts)
    bank = tuner(model).bank
    assert len(bank.touched()) == 0
    for module, rows in bank.read(torch.arange(bank.num_experts)).items():
        assert not bank.split(module, rows)[1].any()
    assert equal(logits(model, random_backbone, asked), logits(random_backbone.model, random_backbone, asked))


def test_other_wordings_come_nearer(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)  # spread by as few questions as these, the experts would part the wordings
    learn(model, random_backbone, facts, objective="none", spread=False)
    before = nearness(model, random_backbone, facts)
    report = learn(model, random_backbone, facts, spread=False)
    after = nearness(model, random_backbone, facts)
    assert after[0] > max(before[0], 0.8)
    assert after[1] > before[1] + 0.1
    assert len(report.losses) == ROUTER.steps
    assert report.losses[-1] < report.losses[0] / 10


def test_held_out_wordings_are_never_read(random_backbone: Backbone, facts: list[Fact]) -> None:
    recorder: Any = Recorder(random_backbone.tokenizer)
    train_router(memory_model(random_backbone), recorder, facts, ROUTER)
    tuned = [wording for fact in facts for wording in fact.wordings()]
    assert all(fact.held_out for fact in facts)
    assert sorted(recorder.texts) == sorted(PROMPT.format(question=wording) for wording in tuned)


@pytest.mark.parametrize("objective", ["none", "contrastive"])
def test_paraphrases_are_read_where_something_is_learned_from_them(
    objective: str, random_backbone: Backbone, facts: list[Fact]
) -> None:
    recorder: Any = Recorder(random_backbone.tokenizer)
    model = memory_model(random_backbone)
    report = learn(model, Backbone("random", random_backbone.model, recorder), facts, objective=objective, spread=False)
    read = [wording for fact in facts for wording in fact.wordings(1 if objective == "none" else None)]
    assert sorted(recorder.texts) == sorted(PROMPT.format(question=wording) for wording in read)
    queries = question_queries(model, random_backbone.tokenizer, [fact.question for fact in facts])
    assert torch.allclose(report.queries, queries, atol=1e-5)


def test_the_report_lies_in_its_ranges_and_the_router_is_frozen(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone, num_experts=64)
    report = learn(model, random_backbone, facts)
    assert report.seconds > 0
    assert 0 < report.usage_entropy <= 1
    assert 0 < report.dead_experts < 1
    assert 0 <= report.collisions <= 8
    assert not any(parameter.requires_grad for parameter in tuner(model).router.parameters())


@pytest.mark.parametrize("spread", [False, True])
def test_without_an_objective_the_router_stays_as_drawn(
    spread: bool, random_backbone: Backbone, facts: list[Fact]
) -> None:
    model = memory_model(random_backbone)
    router = tuner(model).router
    learned, spreading = bits(router, "pool", "project"), bits(router, "mean", "whiten")
    assert learn(model, random_backbone, facts, objective="none", spread=spread).losses == []
    assert equal(bits(router, "pool", "project"), learned)
    assert equal(bits(router, "mean", "whiten"), spreading) is not spread


def test_spreading_lets_more_experts_take_part(random_backbone: Backbone, facts: list[Fact]) -> None:
    drawn, spread = (
        learn(memory_model(random_backbone, num_experts=64), random_backbone, facts, objective="none", spread=spread)
        for spread in (False, True)
    )
    assert spread.usage_entropy > drawn.usage_entropy
    assert spread.dead_experts < drawn.dead_experts
    assert spread.collisions < drawn.collisions


def test_the_seed_decides_every_bit(random_backbone: Backbone, facts: list[Fact]) -> None:
    routers = []
    for seed in (0, 0, 1):
        model = memory_model(random_backbone)
        learn(model, random_backbone, facts, batch_size=4, seed=seed)
        routers.append(bits(tuner(model).router))
    assert equal(routers[0], routers[1])
    assert not equal(routers[0], routers[2])


def test_a_router_can_be_trained_again(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    first = learn(model, random_backbone, facts, steps=5)
    assert learn(model, random_backbone, facts, steps=5).losses[0] < first.losses[0]
    assert learn(model, random_backbone, facts, steps=0).losses == []


def test_usage_equals_counting_one_by_one(random_backbone: Backbone) -> None:
    tested = tuner(memory_model(random_backbone, num_experts=36, index="flat"))
    queries = torch.nn.functional.normalize(
        torch.randn(150, 16, generator=torch.Generator().manual_seed(0)) + 0.5, dim=1
    )
    ids = [set(row) for row in tested.router.select(queries)[0].tolist()]
    counts = torch.tensor([sum(number in row for row in ids) for number in range(36)], dtype=torch.float64)
    shares = counts[counts > 0] / counts.sum()
    found = usage(tested, queries)
    entropy = torch.distributions.Categorical(shares).entropy() / torch.log(torch.tensor(36.0, dtype=torch.float64))
    assert found["usage_entropy"] == pytest.approx(float(entropy), rel=1e-9)
    assert found["dead_experts"] == float((counts == 0).double().mean())
    shared = [len(one & other) for one, other in itertools.combinations(ids, 2)]
    assert found["collisions"] == pytest.approx(sum(shared) / len(shared), rel=1e-12)


def test_usage_where_there_is_nothing_to_choose(random_backbone: Backbone) -> None:
    tested = tuner(memory_model(random_backbone, num_experts=1, top_k=1))
    assert usage(tested, torch.ones(3, 16)) == {"usage_entropy": 1.0, "dead_experts": 0.0, "collisions": 1.0}
    assert usage(tested, torch.ones(1, 16))["collisions"] == 0.0


def test_states_are_those_of_the_question_alone(
    random_backbone: Backbone, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mome.adapter.queries.BATCH_ROWS", 3)
    model, tokenizer = memory_model(random_backbone), random_backbone.tokenizer
    questions = [fact.question for fact in facts] + UNRELATED
    together = question_states(model, tokenizer, questions)
    for question, states in zip(questions, together, strict=True):
        alone = question_states(model, tokenizer, [question])[0]
        assert len(states) == len(tokenizer(PROMPT.format(question=question))["input_ids"])
        torch.testing.assert_close(states, alone, rtol=0.02, atol=0.02 * float(alone.abs().max()))


def test_what_cannot_be_learned_from_is_refused(random_backbone: Backbone, facts: list[Fact]) -> None:
    single = [replace(fact, phrasings=()) for fact in facts]
    with pytest.raises(ValueError, match="no fact has a paraphrase"):
        learn(memory_model(random_backbone), random_backbone, single)
    with pytest.raises(ValueError, match="spread needs two questions"):
        learn(memory_model(random_backbone), random_backbone, single[:1], objective="none")
    with pytest.raises(ValueError, match="no facts"):
        learn(memory_model(random_backbone), random_backbone, [])
    with pytest.raises(ValueError, match="no MoME adapter"):
        learn(random_backbone.model, random_backbone, facts)
