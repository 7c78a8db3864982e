"""Product keys: against brute force over the whole product set, with ties, odd sizes and bad input."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.kernels.topk_flat import topk_flat
from mome.kernels.topk_product_key import topk_product_key


def brute_force(
    queries: torch.Tensor, first: torch.Tensor, second: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """All sums of two f32 half scores in f64, by a full stable sort."""
    width = first.shape[1]
    left = (queries[:, :width].double() @ first.double().T).float().double()
    right = (queries[:, width:].double() @ second.double().T).float().double()
    sums = (left[:, :, None] + right[:, None, :]).flatten(1)
    best, ids = sums.sort(dim=1, descending=True, stable=True)
    return best[:, :k].float(), ids[:, :k]


def assert_same(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 50), (50, 1), (7, 13), (64, 65), (300, 411)])
@pytest.mark.parametrize("width", [1, 32])
def test_equals_brute_force(sizes: tuple[int, int], width: int):
    generator = torch.Generator().manual_seed(sum(sizes) + width)
    queries = torch.randn(5, 2 * width, generator=generator)
    first, second = (torch.randn(size, width, generator=generator) for size in sizes)
    k = min(32, sizes[0] * sizes[1])
    assert_same(topk_product_key(queries, first, second, k), brute_force(queries, first, second, k))


def test_every_pair_can_be_asked_for():
    queries, first, second = torch.randn(2, 8), torch.randn(6, 4), torch.randn(9, 4)
    assert_same(topk_product_key(queries, first, second, 54), brute_force(queries, first, second, 54))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_ties_go_to_the_lowest_id(data: st.DataObject):
    left, right, width = (data.draw(st.integers(1, most)) for most in (20, 20, 3))
    k = data.draw(st.integers(1, left * right))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    queries, first, second = (
        torch.randint(-1, 2, shape, generator=generator).float()
        for shape in ((3, 2 * width), (left, width), (right, width))
    )
    found, expected = topk_product_key(queries, first, second, k), brute_force(queries, first, second, k)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_sums_too_far_apart_for_f64_are_compared_exactly(data: st.DataObject):
    """Half scores between 1e-30 and 1e30, where f64 rounds different sums to one; fractions do not round."""
    numbers = st.lists(st.sampled_from([-1e30, -1.0, 0.0, 1e-30, 2e-30, 1.0, 1e10, 1e30]), min_size=1, max_size=9)
    first, second = (torch.tensor(data.draw(numbers))[:, None] for _ in range(2))
    k = data.draw(st.integers(1, len(first) * len(second)))
    sums = [Fraction(a) + Fraction(b) for a in first.flatten().tolist() for b in second.flatten().tolist()]
    expected = sorted(range(len(sums)), key=lambda pair: (-sums[pair], pair))[:k]
    _, ids = topk_product_key(torch.ones(1, 2), first, second, k)
    assert ids[0].tolist() == expected


def test_equals_flat_search_over_the_joined_keys():
    """On integers both scores are exact, so the product set is a flat set."""
    generator = torch.Generator().manual_seed(3)
    queries, first, second = (
        torch.randint(-9, 10, shape, generator=generator).float() for shape in ((4, 12), (40, 6), (30, 6))
    )
    joined = torch.cat([first.repeat_interleave(30, dim=0), second.repeat(40, 1)], dim=1)
    found, expected = topk_product_key(queries, first, second, 32), topk_flat(queries, joined, 32)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_question_alone_gets_what_it_gets_in_any_batch():
    generator = torch.Generator().manual_seed(4)
    queries = torch.randn(40, 64, generator=generator)
    first, second = (torch.randn(1000, 32, generator=generator) for _ in range(2))
    scores, ids = topk_product_key(queries, first, second, 32)
    for start, stop in [(row, row + 1) for row in range(40)] + [(0, 3), (3, 40)]:
        some_scores, some_ids = topk_product_key(queries[start:stop], first, second, 32)
        assert torch.equal(some_ids, ids[start:stop])
        assert torch.equal(some_scores, scores[start:stop])


def test_scores_that_are_no_numbers_are_refused():
    queries, first, second = torch.ones(2, 4), torch.ones(5, 2), torch.ones(5, 2)
    second[3] = float("nan")
    with pytest.raises(ValueError, match="scores of query 0 are not finite"):
        topk_product_key(queries, first, second, 2)


@pytest.mark.parametrize(
    ("queries", "first", "second", "k", "message"),
    [
        (torch.ones(4), torch.ones(5, 2), torch.ones(5, 2), 1, "queries must be a matrix"),
        (torch.ones(1, 4), torch.ones(5, 2), torch.ones(5, 2, dtype=torch.int64), 1, "second must be .*int64"),
        (torch.ones(1, 4), torch.ones(5, 3), torch.ones(5, 3), 1, "width 4 need half keys of half that"),
        (torch.ones(1, 4), torch.ones(5, 2), torch.ones(5, 3), 1, "got 2 and 3"),
        (torch.ones(1, 4), torch.ones(5, 2), torch.ones(6, 2), 31, r"k must lie in \[1, 30\], got 31"),
        (torch.ones(1, 4), torch.ones(5, 2), torch.ones(6, 2), 0, "got 0"),
    ],
)
def test_misuse_is_named(queries: torch.Tensor, first: torch.Tensor, second: torch.Tensor, k: int, message: str):
    with pytest.raises(ValueError, match=message):
        topk_product_key(queries, first, second, k)
