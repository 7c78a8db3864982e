"""Anchors by themselves: they grow, come back as they were, and go to a device and a dtype as the router does."""

import pytest
import torch
from torch.nn import functional

from mome.adapter.anchors import LEAST_NAMED, LOWEST_SCORE, Anchors, packed, unpacked
from mome.adapter.config import MomeConfig
from mome.adapter.router import Router
from mome.facts.names import WordSet, word_sets


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


def test_a_score_is_the_same_however_many_questions_are_asked() -> None:
    generator = torch.Generator().manual_seed(5)
    anchors = Anchors(128, 3)
    stored = functional.normalize(torch.randn(500, 128, generator=generator), dim=1)
    anchors.add({"queries": stored, "ids": torch.zeros(500, 3, dtype=torch.int64), "weights": torch.ones(500, 3)})
    asked = functional.normalize(stored[:200] + 0.05 * torch.randn(200, 128, generator=generator), dim=1)
    scores, nearest = anchors.recognize(asked)
    alone = [anchors.recognize(asked[place : place + 1]) for place in range(200)]
    assert nearest.tolist() == list(range(200))
    assert torch.equal(scores, torch.cat([score for score, _ in alone]))
    exact = (asked.double() * stored[:200].double()).sum(dim=1)
    assert (scores.double() - exact).abs().max() < 6e-8  # half a unit in the last place of an f32 next to 1


def test_anchors_are_not_in_the_state_of_a_router_and_keep_their_dtype_with_it() -> None:
    router = Router(MomeConfig(num_experts=16, top_k=3, key_size=8), hidden=4)
    router.anchors.add(made(2, 1))
    assert not any("anchors" in name for name in router.state_dict())
    router.to(torch.bfloat16)
    assert torch.equal(router.anchors.queries, made(2, 1)["queries"])


# --- the check of names --------------------------------------------------------------------------------------------

KEY, CODE, ROOM = "Where is the spare key?", "Which code opens the cellar?", "In which room sits Ada?"


def named() -> Anchors:
    anchors = Anchors(8, 3, least_names=0.8)
    anchors.add({**made(3, 1), "words": packed([each for text in (KEY, CODE, ROOM) for each in word_sets([text])])})
    return anchors


def test_the_nearest_anchor_whose_names_are_asked_is_taken() -> None:
    anchors, queries = named(), made(3, 1)["queries"]
    scores, nearest = anchors.recognize(queries, ["where is the sapre key??", ROOM, "Who is it?"])
    assert nearest.tolist() == [0, 2, 0]
    assert scores.tolist() == pytest.approx([1.0, float(queries[1] @ queries[2]), -1.0])
    assert anchors.nearest(queries)[1].tolist() == [0, 1, 2]


def test_names_follow_the_anchors() -> None:
    anchors, queries = named(), made(3, 1)["queries"]
    anchors.recognize(queries, [KEY] * 3)
    kept = anchors.tensors()
    anchors.restore({name: values[1:] for name, values in kept.items()})
    assert anchors.recognize(queries[1:], [CODE, ROOM])[1].tolist() == [0, 1]
    assert anchors.recognize(queries[:1], [KEY])[0].tolist() == [-1.0]
    anchors.forget()
    assert anchors.recognize(queries)[0].tolist() == [-1.0] * 3 and anchors.tensors()["words"].shape == (0, 256)


def test_names_need_the_texts() -> None:
    for texts in (None, [KEY]):
        with pytest.raises(ValueError, match=r"least_names: .* the texts of the 3 questions"):
            named().recognize(made(3, 1)["queries"], texts)


def test_the_threshold_counts_only_questions_that_pass_the_check() -> None:
    anchors, queries = named(), made(3, 1)["queries"]
    assert anchors.threshold(queries, 0.0, [KEY, "Who?", "Who?"]) > 0.9
    assert anchors.threshold(queries, 0.0, ["Who?"] * 3) == LEAST_NAMED


def test_words_come_back_from_their_bytes_and_what_is_too_long_is_left_out() -> None:
    long = WordSet(frozenset({"ada", "\u00fcber"}), frozenset(f"word{number:03}" for number in range(60)))
    sets = [WordSet(frozenset({"ada", "\u00fcber"}), frozenset({"bo"})), WordSet(frozenset()), long]
    first, second, third = unpacked(packed(sets))
    assert [first, second] == sets[:2]
    assert third.shared == long.shared and len(third.other) == 30 and third.other < long.other
