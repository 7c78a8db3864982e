"""Anchors by themselves: they grow, come back as they were, and go to a device and a dtype as the router does."""

import torch
from torch.nn import functional

from mome.adapter.anchors import LOWEST_SCORE, Anchors
from mome.adapter.config import MomeConfig
from mome.adapter.router import Router


def made(count: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    queries = functional.normalize(torch.randn(count, 8, generator=generator), dim=1)
    return {"queries": queries, "ids": torch.arange(count * 3).view(count, 3), "weights": torch.ones(count, 3)}


def test_anchors_grow_behind_each_other_and_come_back() -> None:
    anchors, parts = Anchors(8, 3), [made(2, 1), made(3, 2)]
    assert not len(anchors) and {name: values.dtype for name, values in anchors.tensors().items()} == {
        **{"queries": torch.float32, "ids": torch.int64, "weights": torch.float32}
    }
    for part in parts:
        anchors.add(part)
    assert len(anchors) == 5
    kept = anchors.tensors()
    assert all(torch.equal(values, torch.cat([part[name] for part in parts])) for name, values in kept.items())
    scores, nearest = anchors.recognize(parts[1]["queries"])
    assert nearest.tolist() == [2, 3, 4] and torch.allclose(scores, torch.ones(3))
    anchors.forget()
    assert not len(anchors) and [values.shape[1] for values in anchors.tensors().values()] == [8, 3, 3]
    assert anchors.threshold(parts[0]["queries"], 1.0) == LOWEST_SCORE
    anchors.restore(kept)
    assert all(torch.equal(values, kept[name]) for name, values in anchors.tensors().items())


def test_anchors_are_not_in_the_state_of_a_router_and_keep_their_dtype_with_it() -> None:
    router = Router(MomeConfig(num_experts=16, top_k=3, key_size=8), hidden=4)
    router.anchors.add(made(2, 1))
    assert not any("anchors" in name for name in router.state_dict())
    router.to(torch.bfloat16)
    assert torch.equal(router.anchors.queries, made(2, 1)["queries"])
