"""Tokens whose output row is nearly another token's are found, whatever the vocabulary's size, type and place."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mome.lm.loading import Backbone, load_backbone
from mome.lm.writable import LEAST_DISTANCE, nearest_rows, unwritable_tokens


def rows(count: int = 60, size: int = 16) -> torch.Tensor:
    """Random rows; those of 7, 20 and 41 nearly alike, those of 3 and 50 equal, that of 30 short but its own."""
    weights = torch.randn(count, size, generator=torch.Generator().manual_seed(0))
    for token in (20, 41):
        weights[token] = weights[7] + 0.01 * weights[token]
    weights[50] = weights[3]
    weights[30] = weights.mean(dim=0)
    return weights


def model_of(weights: Any, **more: Any) -> Any:
    layer = None if weights is None else SimpleNamespace(weight=weights, **more)
    return SimpleNamespace(get_output_embeddings=lambda: layer)


ALIKE = {3, 7, 20, 41, 50}


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_distances_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("mome.lm.writable.BLOCK", block)
    weights = rows()
    pairs = torch.cdist(weights.double(), weights.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = pairs.fill_diagonal_(torch.inf).min(dim=1).values / (weights - weights.mean(0)).norm(dim=1).median()
    ids = torch.tensor([50, 0, 7, 59, 30])
    assert torch.allclose(nearest_rows(weights, ids), expected[ids].float(), atol=1e-3)
    assert nearest_rows(weights, torch.tensor([3])) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nearly_equal_rows_are_unwritable_wherever_all_rows_lie(dtype: torch.dtype) -> None:
    for shift in (0, 20):
        weights = (rows() + shift * torch.ones(16)).to(dtype) if shift == 0 else rows() + shift
        assert unwritable_tokens(model_of(weights), range(60)) == ALIKE
    assert unwritable_tokens(model_of(rows(), bias=torch.arange(60.0)), range(60)) == ALIKE


def test_only_the_tokens_asked_for_are_judged_and_against_all_rows() -> None:
    assert unwritable_tokens(model_of(rows()), [0, 7, 50]) == {7, 50}
    assert unwritable_tokens(model_of(rows()), []) == set()
    assert unwritable_tokens(model_of(torch.ones(5, 4)), range(5)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("weights", [None, torch.ones(60), "quantized"])
def test_a_model_without_a_matrix_of_output_rows_is_taken_to_write_everything(weights: Any) -> None:
    assert unwritable_tokens(model_of(weights), [0, 1]) == set()


def test_a_random_backbone_writes_everything_until_rows_are_made_alike(random_backbone: Backbone) -> None:
    model: Any = copy.deepcopy(random_backbone.model)
    everything = range(model.config.vocab_size)
    assert unwritable_tokens(model, everything) == set()
    weights = model.get_output_embeddings().weight
    with torch.no_grad():
        weights[9] = weights[11] + 0.1 * LEAST_DISTANCE * (weights[9] - weights[11])
    assert unwritable_tokens(model, everything) == {9, 11}


def test_like_rows_get_like_logits_whatever_the_state_is() -> None:
    """Why it matters: no final state of the same length lifts one of two like tokens far above the other."""
    weights = rows()
    states = torch.randn(10_000, 16, generator=torch.Generator().manual_seed(1))
    logits = states @ weights.T
    apart = (logits[:, 7] - logits[:, 20]).abs().max()
    assert apart <= states.norm(dim=1).max() * (weights[7] - weights[20]).norm()
    assert apart < 0.05 * (logits[:, 7] - logits[:, 8]).abs().max()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_no_token_of_a_shipped_backbone_lies_near_the_bound(name: str) -> None:
    """The rows fall into two kinds, so the bound's exact place decides nothing here."""
    weights = load_backbone(name, "cpu").model.get_output_embeddings().weight  # type: ignore[union-attr]
    found = nearest_rows(weights, torch.arange(len(weights)))
    assert not ((found > LEAST_DISTANCE / 2) & (found < 2 * LEAST_DISTANCE)).any()
