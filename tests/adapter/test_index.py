"""The keys of the experts: drawn in parts, and the same whatever the parts."""

import pytest
import torch

from mome.adapter import index
from mome.adapter.index import normal_draws


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_numbers_drawn_in_parts_are_those_drawn_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = normal_draws(count, 5, seed=3, stream=7)
    monkeypatch.setattr(index, "DRAWN_ROWS", 4)
    assert torch.equal(normal_draws(count, 5, seed=3, stream=7), whole) and whole.shape == (count, 5)


def test_a_smaller_table_is_the_start_of_a_larger_one_and_seeds_differ() -> None:
    table = normal_draws(64, 32, seed=0, stream=1)
    assert torch.equal(normal_draws(8, 32, seed=0, stream=1), table[:8])
    assert not torch.equal(normal_draws(64, 32, seed=1, stream=1), table)
    assert abs(float(table.mean())) < 0.1 and abs(float(table.std()) - 1) < 0.1
