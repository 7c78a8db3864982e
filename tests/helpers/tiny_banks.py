"""What the tests of the bank share: two small modules, rows for them, and a comparison of bits."""

import torch

from mome.adapter.bank import Bank

SHAPES = {"layers.0.up": (3, 5), "layers.1.down": (5, 4)}
UP, DOWN = SHAPES


def make_rows(bank: Bank, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {module: torch.randn(count, bank.width(module), generator=generator) for module in bank.shapes}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same names, in the same bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
