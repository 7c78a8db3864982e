"""The router: exact search, anchors, the null key, whitening, and queries that do not see their company."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mome.adapter.config import MomeConfig
from mome.adapter.router import Router
from mome.lm.prompts.marks import prompt_tokens

HIDDEN = 24


pytestmark = pytest.mark.usefixtures("one_thread")


def make_router(**changes: Any) -> Router:
    return Router(MomeConfig(**{"num_experts": 400, "top_k": 6, "key_size": 8, **changes}), HIDDEN)


def random_queries(count: int, size: int = 8, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def all_keys(router: Router) -> Tensor:
    """Every expert's key [N, key_size]."""
    index = router.index
    if hasattr(index, "keys"):
        return index.keys
    n2 = len(index.second)
    return torch.cat([index.first.repeat_interleave(n2, dim=0), index.second.repeat(len(index.first), 1)], dim=1)


def brute_force(queries: Tensor, keys: Tensor, k: int) -> Tensor:
    """Ids [Q, k] by exact scores, ties to the lowest id."""
    scores = torch.stack([(query * keys.double()).sum(dim=1) for query in queries.double()])
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]


# --- search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["flat", "product_key"])
@pytest.mark.parametrize("num_experts", [6, 64, 400, 10_000])
def test_chosen_experts_are_those_of_brute_force(index: str, num_experts: int) -> None:
    router, queries = make_router(index=index, num_experts=num_experts), random_queries(50)
    ids, weights = router.select(queries)
    expected = brute_force(queries, all_keys(router), 6)
    assert torch.equal(ids, expected)
    assert all(len(set(row)) == 6 for row in ids.tolist())
    scores = torch.einsum("qd,qkd->qk", queries, all_keys(router)[ids])
    torch.testing.assert_close(weights, (scores / 0.2).softmax(dim=1) * 6)
    torch.testing.assert_close(router.index.scores(queries, ids), scores)


@pytest.mark.parametrize("index", ["flat", "product_key"])
def test_tied_experts_go_to_the_lowest_id(index: str) -> None:
    router = make_router(index=index)
    for keys in router.index.buffers():
        keys.copy_(keys[:1].expand_as(keys))
    assert router.select(random_queries(3))[0].tolist() == [[0, 1, 2, 3, 4, 5]] * 3


@pytest.mark.parametrize("index", ["flat", "product_key"])
def test_keys_follow_from_the_seed_alone(index: str) -> None:
    first, other = make_router(index=index), make_router(index=index, seed=1)
    torch.manual_seed(99)
    again = make_router(index=index)
    assert torch.equal(all_keys(first), all_keys(again))
    assert torch.equal(first.pool, again.pool) and torch.equal(first.project, again.project)
    assert not torch.equal(all_keys(first), all_keys(other))
    assert not torch.equal(first.pool, other.pool)
    assert not any("keys" in name or "first" in name for name in first.state_dict())


def test_weights_without_a_temperature_are_all_the_scale() -> None:
    assert make_router(temperature=None, scale=0.5).select(random_queries(3))[1].tolist() == [[0.5] * 6] * 3
    weights = make_router(scale=0.5).select(random_queries(3))[1]
    torch.testing.assert_close(weights.mean(dim=1), torch.full((3,), 0.5))


def test_gradients_of_the_weights_reach_the_router() -> None:
    router = make_router()
    routes = router(torch.randn(2, 5, HIDDEN), torch.ones(2, 5, dtype=torch.bool))
    routes.weights[:, 0].sum().backward()
    assert router.pool.grad.abs().sum() > 0 and router.project.grad.abs().sum() > 0


# --- queries -------------------------------------------------------------------------------------------------------


def test_a_query_is_the_same_bits_in_any_company_and_padding() -> None:
    router, generator = make_router(), torch.Generator().manual_seed(1)
    rows = [torch.randn(length, HIDDEN, generator=generator) for length in range(1, 41)]
    alone = torch.cat([router.query(row[None], torch.ones(1, len(row), dtype=torch.bool)) for row in rows])
    for left in (False, True):
        states, prompt = torch.full((40, 45, HIDDEN), 7.0), torch.zeros(40, 45, dtype=torch.bool)
        for index, row in enumerate(rows):
            place = slice(45 - len(row), 45) if left else slice(0, len(row))
            states[index, place], prompt[index, place] = row, True
        assert torch.equal(router.query(states, prompt), alone)
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(40))


def test_a_query_ignores_autocast_and_reads_bf16_states() -> None:
    router, states, prompt = make_router(), torch.randn(3, 5, HIDDEN), torch.ones(3, 5, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(router.query(states, prompt), router.query(states, prompt))
        inside = router.query(states, prompt)
    assert torch.equal(inside, router.query(states, prompt))
    half = states.bfloat16()
    assert torch.equal(router.query(half, prompt), router.query(half.float(), prompt))


# --- anchors and the null key --------------------------------------------------------------------------------------


def near(queries: Tensor) -> Tensor:
    return functional.normalize(queries + 0.02 * random_queries(len(queries), queries.shape[1], seed=5), dim=1)


def test_a_query_near_an_anchor_takes_exactly_its_experts() -> None:
    router, known = make_router(num_experts=10_000), random_queries(20)
    parts = [router.anchor(known[:12]), router.anchor(known[12:])]
    ids, weights = (torch.cat(values) for values in zip(*parts, strict=True))
    assert all(torch.equal(*pair) for pair in zip((ids, weights), router.select(known), strict=True))
    routes = router.route(near(known))
    assert torch.equal(routes.ids, ids) and torch.equal(routes.weights, weights)
    assert routes.scores.min() > 0.99 and routes.scores.max() < 1
    own = router.select(near(known))[0]
    assert not torch.equal(own, ids)
    router.snap = False
    assert torch.equal(router.route(near(known)).ids, own)
    router.anchors.forget()
    assert torch.equal(router.route(known).ids, ids)
    assert router.route(known).scores.tolist() == [-1.0] * 20


def test_wordings_of_one_question_share_the_experts_between_them() -> None:
    router, known = make_router(num_experts=10_000), random_queries(3)
    wordings = torch.cat([known, near(known[:2])])
    ids, weights = router.anchor(wordings, torch.tensor([0, 1, 2, 0, 1]))
    assert torch.equal(ids[3:], ids[:2]) and torch.equal(weights[3:], weights[:2])
    middle = functional.normalize(known[:2] + near(known[:2]), dim=1)
    assert torch.equal(ids[:2], router.select(middle)[0])
    assert torch.equal(router.route(wordings).ids, ids)
    assert router.route(middle).scores.min() > 0.99999
    assert torch.equal(router.route(middle).ids, ids[:2])


@pytest.mark.parametrize("snap", [True, False])
def test_a_query_far_from_every_anchor_takes_no_expert(snap: bool) -> None:
    router, known = make_router(min_score=0.95, snap=snap), random_queries(3, seed=1)
    both = torch.cat([near(known), -known])
    assert router.route(both).weights.count_nonzero() == 0  # nothing is memorized yet
    router.anchor(known)
    routes = router.route(both)
    assert (routes.weights[:3] > 0).all() and routes.weights[3:].count_nonzero() == 0
    if snap:
        assert torch.equal(routes.ids[:3], router.anchors.ids)
    routes = router.by_keys(both)
    assert (routes.weights > 0).all()
    assert torch.equal(routes.ids, router.select(both)[0])


@pytest.mark.parametrize("false_alarms", [0.0, 0.5, 1.0])
def test_without_anchors_no_null_key_lets_a_question_pass(false_alarms: float) -> None:
    router, others = make_router(), random_queries(20)
    assert -1 < router.anchors.threshold(others, false_alarms) < -0.999
    router.anchor(random_queries(3, seed=1))
    passing = router.anchors.recognize(others)[0] >= router.anchors.threshold(others, false_alarms)
    assert int(passing.sum()) == int(false_alarms * 20)


def test_memory_comes_back() -> None:
    router, other = make_router(), make_router()
    router.anchor(random_queries(4))
    other.anchors.restore(router.anchors.tensors())
    assert all(torch.equal(other.anchors.tensors()[name], value) for name, value in router.anchors.tensors().items())
    assert torch.equal(other.route(near(random_queries(4))).ids, router.anchors.ids)


# --- balance -------------------------------------------------------------------------------------------------------


def test_whitening_spreads_crowded_queries_over_the_experts() -> None:
    router = make_router(num_experts=4096, key_size=16, top_k=4)
    crowded = functional.normalize(random_queries(512, 16) * 0.1 + random_queries(1, 16, seed=3), dim=1)
    before = len(router.select(crowded)[0].unique())
    router.spread(crowded)
    after = len(router.select(crowded)[0].unique())
    ideal = 4096 * (1 - (1 - 1 / 4096) ** 2048)
    assert before < 0.5 * ideal and after > 0.6 * ideal
    alone = torch.cat([router.select(query[None])[0] for query in crowded])
    assert torch.equal(alone, router.select(crowded)[0])
    white = (crowded - router.mean) @ router.whiten
    variances = torch.linalg.eigvalsh(torch.cov(white.T))
    torch.testing.assert_close(variances[1:], torch.ones(15), atol=1e-3, rtol=0)
    assert variances[0] < 1  # along the mean the queries hardly differ: that noise is not blown up


# --- prompt tokens -------------------------------------------------------------------------------------------------


def test_prompt_tokens() -> None:
    ids = torch.arange(8).view(2, 4)
    labels = torch.tensor([[-100, -100, 5, -100], [-100, 6, 6, 6]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
    assert prompt_tokens({"input_ids": ids}).tolist() == [[True] * 4] * 2
    assert prompt_tokens({"input_ids": ids, "attention_mask": mask}).tolist() == mask.bool().tolist()
    found = prompt_tokens({"input_ids": ids, "labels": labels, "attention_mask": mask})
    assert found.tolist() == [[False, True, False, False], [True, False, False, False]]
    marked = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1]])
    found = prompt_tokens({"input_ids": ids, "labels": labels, "attention_mask": mask, "prompt_mask": marked})
    assert found.tolist() == [[False, False, False, True], [False, True, False, False]]
    assert prompt_tokens({"input_ids": None, "inputs_embeds": torch.zeros(2, 3, 5)}).shape == (2, 3)
