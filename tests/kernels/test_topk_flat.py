"""Exact search: against brute force in f64, with ties, odd sizes and bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.kernels.topk_flat import reference, topk_flat


def brute_force(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A full stable sort of all scores, which keeps equal ones in the order of their ids."""
    scores = (queries.double() @ keys.double().T).float()
    best, ids = scores.sort(dim=1, descending=True, stable=True)
    return best[:, :k], ids[:, :k]


def assert_same(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], rtol=2e-7, atol=0)


@pytest.mark.parametrize("count", [1, 7, 63, 64, 65, 1000, 4097, 100_003])
@pytest.mark.parametrize("width", [1, 5, 64])
@pytest.mark.parametrize("questions", [1, 3])
def test_equals_brute_force(questions: int, count: int, width: int):
    generator = torch.Generator().manual_seed(count * width + questions)
    queries = torch.randn(questions, width, generator=generator)
    keys = torch.randn(count, width, generator=generator)
    k = min(count, 32)
    assert_same(topk_flat(queries, keys, k), brute_force(queries, keys, k))


def test_all_keys_can_be_asked_for():
    queries, keys = torch.randn(2, 8), torch.randn(70, 8)
    assert_same(topk_flat(queries, keys, 70), brute_force(queries, keys, 70))


@pytest.mark.parametrize("count", [200, 60_000])
@pytest.mark.parametrize("values", [1, 2, 3])
def test_ties_go_to_the_lowest_id(count: int, values: int):
    """Integer keys make thousands of equal scores; with one value all are equal."""
    generator = torch.Generator().manual_seed(values)
    queries = torch.randint(0, values, (5, 6), generator=generator).float()
    keys = torch.randint(0, values, (count, 6), generator=generator).float()
    scores, ids = topk_flat(queries, keys, 32)
    expected = brute_force(queries, keys, 32)
    assert torch.equal(ids, expected[1])
    assert torch.equal(scores, expected[0])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_brute_force_on_any_small_integers(data: st.DataObject):
    questions, count, width = (data.draw(st.integers(1, most)) for most in (4, 90, 5))
    k = data.draw(st.integers(1, count))
    seed = data.draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randint(-2, 3, (questions, width), generator=generator).float()
    keys = torch.randint(-2, 3, (count, width), generator=generator).float()
    expected = brute_force(queries, keys, k)
    for found in (topk_flat(queries, keys, k), by_candidates(queries, keys, k)):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def by_candidates(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The search that large sets of keys get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "SMALL", 0)
        return topk_flat(queries, keys, k)


def test_near_ties_that_f32_products_confuse_are_told_apart():
    """Keys that differ in their last bits: the order of f32 products is noise, that of f64 is not."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(1, 64, generator=generator)
    keys = base + 2.0**-22 * torch.randn(30_000, 64, generator=generator)
    queries = torch.randn(3, 64, generator=generator)
    rough = (queries @ keys.T).topk(32, dim=1).indices
    expected = brute_force(queries, keys, 32)
    assert not torch.equal(rough, expected[1])
    assert_same(topk_flat(queries, keys, 32), expected)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-8, 1e15])
def test_tiny_and_huge_numbers(scale: float):
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(2, 16, generator=generator)
    keys = scale * torch.randn(20_000, 16, generator=generator)
    assert_same(topk_flat(queries, keys, 8), brute_force(queries, keys, 8))
    assert_same(topk_flat(scale * queries, keys / scale, 8), brute_force(scale * queries, keys / scale, 8))


@pytest.mark.parametrize("count", [1000, 50_000])
def test_a_question_alone_gets_what_it_gets_in_any_batch(count: int):
    generator = torch.Generator().manual_seed(2)
    queries, keys = torch.randn(37, 64, generator=generator), torch.randn(count, 64, generator=generator)
    scores, ids = topk_flat(queries, keys, 32)
    for start, stop in [(row, row + 1) for row in range(37)] + [(0, 2), (3, 20), (20, 37)]:
        some_scores, some_ids = topk_flat(queries[start:stop], keys, 32)
        assert torch.equal(some_ids, ids[start:stop])
        assert torch.equal(some_scores, scores[start:stop])


def test_a_scattered_or_transposed_input_changes_nothing():
    queries, keys = torch.randn(4, 32), torch.randn(3000, 32)
    expected = topk_flat(queries, keys, 9)
    found = topk_flat(queries.T.contiguous().T, keys.repeat(1, 2)[:, :32], 9)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_many_questions_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch):
    queries, keys = torch.randn(11, 16), torch.randn(5000, 16)
    expected = topk_flat(queries, keys, 5)
    monkeypatch.setattr(reference, "ROUGH_SCORES", 15_000)
    found = topk_flat(queries, keys, 5)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def near_ties(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys whose scores f32 tells apart and bf16 or TF32 does not."""
    generator = torch.Generator().manual_seed(5)
    keys = torch.randn(1, 64, generator=generator) + 2.0**-14 * torch.randn(count, 64, generator=generator)
    return torch.randn(16, 64, generator=generator), keys


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_faster_matmul_precision_does_not_reach_the_search(precision: str):
    """It bites where the processor has such a precision for f32 products."""
    queries, keys = near_ties(100_000)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = topk_flat(queries, keys, 32)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    assert_same(found, brute_force(queries, keys, 32))


def test_autocast_does_not_reach_the_search():
    queries, keys = near_ties(50_000)
    with torch.autocast("cpu", torch.bfloat16):
        found = topk_flat(queries, keys, 32)
    assert_same(found, brute_force(queries, keys, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_numbers_are_taken_as_they_are(dtype: torch.dtype):
    queries, keys = torch.randn(3, 32).to(dtype), torch.randn(9000, 32).to(dtype)
    assert_same(topk_flat(queries, keys, 20), brute_force(queries, keys, 20))


def test_no_question_gets_no_answer():
    scores, ids = topk_flat(torch.randn(0, 4), torch.randn(10, 4), 3)
    assert scores.shape == ids.shape == (0, 3)


def test_the_search_asks_for_no_gradient():
    scores, _ = topk_flat(torch.randn(2, 4, requires_grad=True), torch.randn(10, 4, requires_grad=True), 3)
    assert not scores.requires_grad


@pytest.mark.parametrize("count", [100, 60_000])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("where", ["queries", "keys"])
def test_scores_that_are_no_numbers_are_refused(count: int, bad: float, where: str):
    queries, keys = torch.ones(3, 4), torch.randn(count, 4)
    (queries if where == "queries" else keys)[1] = bad
    with pytest.raises(ValueError, match=r"scores of query \d are not finite"):
        topk_flat(queries, keys, 2)


@pytest.mark.parametrize(
    ("queries", "keys", "k", "message"),
    [
        (torch.ones(4), torch.ones(5, 4), 1, r"queries must be a matrix .*\[4\]"),
        (torch.ones(1, 4), torch.ones(5, 4, dtype=torch.float64), 1, "keys must be .*float64"),
        (torch.ones(1, 4), torch.ones(5, 3), 1, "width 4, keys have width 3"),
        (torch.ones(1, 4), torch.ones(5, 4), 0, r"k must lie in \[1, 5\].* got 0"),
        (torch.ones(1, 4), torch.ones(5, 4), 6, r"k must lie in \[1, 5\].* got 6"),
    ],
)
def test_misuse_is_named(queries: torch.Tensor, keys: torch.Tensor, k: int, message: str):
    with pytest.raises(ValueError, match=message):
        topk_flat(queries, keys, k)


def test_keys_that_change_between_searches_are_measured_anew():
    """The length of the longest key is remembered; with a stale one the margin would be a millionth of what it must."""
    generator = torch.Generator().manual_seed(3)
    queries, keys = torch.randn(2, 16, generator=generator), 1e-6 * torch.randn(9_000, 16, generator=generator)
    assert_same(topk_flat(queries, keys, 8), brute_force(queries, keys, 8))
    before = reference.MEASURED[keys][1]
    keys *= 1e6
    assert_same(topk_flat(queries, keys, 8), brute_force(queries, keys, 8))
    assert reference.MEASURED[keys][1] > 1e5 * before
    keys[17] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        topk_flat(queries, keys, 8)


def test_unchanged_keys_are_measured_once(monkeypatch: pytest.MonkeyPatch):
    keys, calls = torch.randn(9_000, 16), []
    monkeypatch.setattr(reference, "_remembered", lambda keys, longest: calls.append(1) or REMEMBERED(keys, longest))
    for _ in range(3):
        topk_flat(torch.randn(2, 16), keys, 8)
    assert len(calls) == 1


REMEMBERED = reference._remembered


def test_keys_without_a_version_are_measured_each_time():
    with torch.inference_mode():
        keys = torch.randn(9_000, 16)
        for scale in (1.0, 1e3):
            keys.mul_(scale)
            queries = torch.randn(2, 16)
            assert_same(topk_flat(queries, keys, 8), brute_force(queries, keys, 8))
    assert keys not in reference.MEASURED


def test_what_was_measured_goes_with_its_keys():
    keys = torch.randn(9_000, 16)
    topk_flat(torch.randn(2, 16), keys, 8)
    held = len(reference.MEASURED)
    del keys
    assert len(reference.MEASURED) == held - 1
