"""Exact search in Triton: the same ids and bits as the reference, whatever the shapes, numbers and number types."""

import pytest
import torch
from torch import Tensor

from mome.kernels.topk_flat import topk_flat

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
# Triton's interpreter computes with numpy, which speaks up where a GPU returns infinity or NaN in silence.
quiet = pytest.mark.filterwarnings("ignore:.* encountered:RuntimeWarning")


@pytest.fixture
def triton(device: str):
    """The Triton side of the search, which cannot be imported where there is no Triton."""
    from mome.kernels.topk_flat import triton

    return triton


def brute_force(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A full stable sort of all scores, which keeps equal ones in the order of their ids."""
    scores = (queries.double() @ keys.double().T).float()
    best, ids = scores.sort(dim=1, descending=True, stable=True)
    return best[:, :k], ids[:, :k]


def normal(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_found(queries: Tensor, keys: Tensor, k: int, device: str) -> None:
    """The ids are those of brute force, the bits of the scores those of the reference on the CPU."""
    scores, ids = topk_flat(queries.to(device), keys.to(device), k, impl="triton")
    assert torch.equal(ids.cpu(), brute_force(queries, keys, k)[1])
    expected = topk_flat(queries, keys, k, impl="reference")[0]
    assert torch.equal(scores.cpu().view(torch.int32), expected.view(torch.int32))


# k of up to 8 makes the blocks beyond the 16th compete: from 1025 keys on not every key is scored exactly.
@pytest.mark.parametrize(
    ("questions", "count", "width", "k", "dtype"),
    [
        (1, 1, 1, 1, F32),
        (17, 65, 1, 1, BF16),
        (2, 70, 8, 70, F32),
        (2, 129, 130, 5, F16),
        (1, 1024, 7, 8, F32),
        (1, 1025, 1, 1, F32),
        (2, 1337, 130, 3, F32),
        (3, 1500, 64, 8, BF16),
        (2, 1499, 33, 1, F16),
        (1, 4173, 16, 32, BF16),
    ],
)
def test_finds_what_the_reference_finds(
    questions: int, count: int, width: int, k: int, dtype: torch.dtype, device: str
):
    assert_found(normal(questions, width, dtype=dtype), normal(count, width, dtype=dtype, seed=1), k, device)


def test_number_types_and_strides_can_differ(device: str):
    queries, keys = normal(40, 2), normal(24, 1300, dtype=BF16, seed=1)
    assert_found(queries.T[:, :24], keys.T, 2, device)
    assert_found(queries.T[:, 1::2][:, :12], keys.T[:: -1 + 2, ::2], 2, device)


@pytest.mark.parametrize("values", [1, 2])
def test_ties_go_to_the_lowest_id(values: int, device: str):
    """With two values thousands of keys are equal; with one all of them are."""
    generator = torch.Generator().manual_seed(values)
    queries, keys = (torch.randint(0, values, (count, 3), generator=generator).float() for count in (2, 1600))
    assert_found(queries, keys + 1, 5, device)


def test_zeros_of_either_sign_are_equal_and_keep_their_sign(device: str):
    queries, keys = torch.full((1, 1), 1e-30), torch.tensor([[-1e-30], [0.0], [1e-30], [-2e-30], [-1.0]])
    assert_found(queries, keys, 5, device)
    assert topk_flat(queries.to(device), keys.to(device), 4, impl="triton")[1].tolist() == [[0, 1, 2, 3]]


def test_near_ties_are_settled_by_a_search_of_all_blocks_in_question(triton, device: str):
    """Keys that differ in their last bits: the margin of rough scores holds them all."""
    queries, keys = normal(2, 64), normal(1, 64, seed=1) + 2.0**-22 * normal(1700, 64, seed=2)
    found = triton.search(queries.to(device), keys.to(device), 4)
    assert found.doubts.tolist() == [triton.UNCERTAIN] * 2
    assert_found(queries, keys, 4, device)


def test_a_row_in_doubt_is_searched_in_parts(triton, device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triton, "AT_ONCE", 5)
    assert_found(torch.ones(1, 3), torch.ones(1200, 3), 6, device)


def test_distant_scores_leave_no_doubt(triton, device: str):
    found = triton.search(normal(2, 64).to(device), normal(1300, 64, seed=1).to(device), 3)
    assert found.doubts.tolist() == [0, 0]


@quiet
@pytest.mark.parametrize("scale", [1e-41, 1e-30, 1e15, 1e25])
def test_tiny_and_huge_numbers(scale: float, device: str):
    """Subnormal keys, and lengths whose squares f32 cannot hold."""
    queries, keys = normal(1, 16), normal(1200, 16, seed=1)
    assert_found(queries, scale * keys, 4, device)
    if scale > 1e-38:
        assert_found(scale * queries, keys / scale, 4, device)


@quiet
@pytest.mark.parametrize(
    ("count", "where", "bad"),
    [
        (1217, "keys", float("nan")),
        (1217, "keys", -float("inf")),
        (1217, "keys", 3e38),
        (1217, "queries", float("nan")),
        (100, "keys", -3e38),
        (100, "queries", float("inf")),
    ],
)
def test_scores_that_are_no_numbers_are_refused(count: int, where: str, bad: float, device: str):
    queries, keys = torch.ones(2, 4), normal(count, 4)
    if where == "keys":
        keys[count - 1] = bad
    else:
        queries[1] = bad
    with pytest.raises(ValueError, match="the scores of query 1 are not finite" if where == "queries" else "query 0"):
        topk_flat(queries.to(device), keys.to(device), 2, impl="triton")


@quiet
def test_a_score_below_the_numbers_of_f32_is_refused_wherever_it_is(device: str):
    """Its block is far from being chosen; the lengths of query and key are within f32."""
    keys = normal(1217, 4)
    keys[-1] = -5e18
    with pytest.raises(ValueError, match="the scores of query 0 are not finite"):
        topk_flat(torch.full((1, 4), 1e18).to(device) * 100, keys.to(device), 2, impl="triton")


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_no_score_lies_further_from_its_block_than_the_margin(triton, dtype: torch.dtype, device: str):
    """Several tiles of queries; a bound is the block's best score at least, and no more than two margins above it."""
    queries, keys = normal(130, 40, dtype=dtype), normal(300, 40, dtype=dtype, seed=1)
    maxima, lengths = triton._maxima(queries.to(device), keys.to(device))
    scores = torch.nn.functional.pad(queries.double() @ keys.double().T, (0, 20), value=-torch.inf)
    best = scores.view(130, 5, 64).amax(dim=2)
    longest = torch.nn.functional.pad(keys.double().norm(dim=1), (0, 84)).view(-1, 128).amax(dim=1)
    torch.testing.assert_close(lengths.cpu().double().sqrt(), longest, rtol=1e-5, atol=0)
    assert (maxima.cpu() - best).abs().amax() < 1e-5
    best, queries, maxima = best[-5:], queries[-5:], maxima[-5:]
    triton._choose(queries.to(device), maxima, lengths, 2, 4)
    margin = 2 * 40 * 2.0**-22 * queries.double().norm(dim=1)[:, None] * longest.amax()
    assert ((maxima.cpu() >= best) & (maxima.cpu() <= best + 2.001 * margin)).all()


@quiet
def test_blocks_are_chosen_in_several_rounds(triton, device: str, monkeypatch: pytest.MonkeyPatch):
    """70 blocks in rounds of 32 leave 48, then 32, then 16."""
    monkeypatch.setattr(triton, "CHUNK", 32)
    assert_found(normal(2, 8), normal(64 * 70, 8, seed=1), 2, device)
    assert_found(torch.ones(1, 2), torch.ones(64 * 70, 2), 2, device)
    with pytest.raises(ValueError, match="not finite"):
        last_is_wrong = torch.arange(64 * 70.0, 0, -1).where(torch.arange(64 * 70) < 64 * 70 - 1, torch.nan)
        topk_flat(torch.ones(1, 1, device=device), last_is_wrong[:, None].to(device), 2, impl="triton")


@quiet
def test_many_questions_are_searched_in_parts(triton, device: str, monkeypatch: pytest.MonkeyPatch):
    queries, keys = normal(3, 8), normal(1300, 8, seed=1)
    monkeypatch.setattr(triton, "NUMBERS", 50)
    assert_found(queries, keys, 2, device)
    queries[2] = torch.nan
    with pytest.raises(ValueError, match="the scores of query 2"):
        topk_flat(queries.to(device), keys.to(device), 2, impl="triton")


@pytest.mark.parametrize("count", [90, 1100])
def test_every_number_of_a_buffer_is_written(count: int, device: str, monkeypatch: pytest.MonkeyPatch):
    queries, keys = normal(2, 5).to(device), normal(count, 5, seed=1).to(device)
    expected = topk_flat(queries, keys, 3, impl="triton")
    for owner, name in ((torch, "empty"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    found = topk_flat(queries, keys, 3, impl="triton")
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def poisoned(empty):
    """`empty`, but full of numbers that must not be seen."""

    def wrong(*args, **more):
        made = empty(*args, **more)
        return made.fill_(float("nan") if made.is_floating_point() else 1)

    return wrong


@pytest.mark.parametrize("count", [130, 1300])
def test_a_question_alone_gets_what_it_gets_in_any_batch(count: int, device: str):
    queries, keys = normal(3, 33).to(device), normal(count, 33, seed=1).to(device)
    scores, ids = topk_flat(queries, keys, 8, impl="triton")
    for start, stop in ((1, 2), (0, 2), (0, 3)):
        some = topk_flat(queries[start:stop], keys, 8, impl="triton")
        assert torch.equal(some[0], scores[start:stop]) and torch.equal(some[1], ids[start:stop])


def test_no_question_gets_no_answer(device: str):
    scores, ids = topk_flat(torch.ones(0, 4, device=device), torch.ones(2000, 4, device=device), 3, impl="triton")
    assert scores.shape == ids.shape == (0, 3)


@pytest.mark.parametrize("impl", ["auto", "reference", "triton"])
def test_the_operation_is_what_torch_expects_of_it(impl: str, device: str):
    operation = torch.ops.mome.topk_flat.default
    torch.library.opcheck(operation, (normal(2, 3).to(device), normal(9, 3, seed=1).to(device), 4, impl))


def test_a_compiled_function_searches_too(device: str):
    queries, keys = normal(2, 3).to(device).requires_grad_(), normal(40, 3, seed=1).to(device)
    search = torch.compile(lambda queries: topk_flat(2 * queries, keys, 4), backend="eager", fullgraph=True)
    scores, ids = search(queries)
    expected = topk_flat(2 * queries, keys, 4)
    assert torch.equal(scores, expected[0]) and torch.equal(ids, expected[1])
    assert not scores.requires_grad


def test_what_the_kernels_cannot_rank_is_refused_or_left_to_the_reference(device: str):
    queries, keys = normal(1, 3), normal(300, 3, seed=1)
    with pytest.raises(RuntimeError, match="it ranks no more than 248 keys, and k is 249"):
        topk_flat(queries.to(device), keys.to(device), 249, impl="triton")
    with pytest.raises(ValueError, match="impl must be one of auto, reference, triton, got 'cuda'"):
        topk_flat(queries, keys, 1, impl="cuda")
    assert torch.equal(topk_flat(queries.to(device), keys.to(device), 249)[1].cpu(), brute_force(queries, keys, 249)[1])
    assert_found(queries, keys, 248, device)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("count", [2**18, 4_300_003])
def test_millions_of_keys_are_searched_alike_in_twenty_runs(count: int):
    """The larger table has more than 2^31 numbers."""
    generator = torch.Generator("cuda").manual_seed(0)
    keys = torch.empty(count, 512, dtype=BF16, device="cuda")
    for part in keys.split(2**18):
        part.normal_(generator=generator)
    queries = torch.randn(17, 512, dtype=BF16, device="cuda", generator=generator)
    keys[-1] = keys[5] = queries[0] * 2
    scores, ids = topk_flat(queries, keys, 32, impl="triton")
    assert ids[0, :2].tolist() == [5, count - 1]
    exact = torch.cat([(queries.double() @ part.double().T).float() for part in keys.split(2**18)], dim=1)
    expected = exact.sort(dim=1, descending=True, stable=True)
    assert torch.equal(ids, expected.indices[:, :32])
    torch.testing.assert_close(scores, expected.values[:, :32], rtol=2e-7, atol=0)
    for _ in range(20):
        again = topk_flat(queries, keys, 32, impl="triton")
        assert torch.equal(again[0], scores) and torch.equal(again[1], ids)


@pytest.mark.gpu
@needs_gpu
def test_the_search_fits_a_cuda_graph():
    from mome.kernels.topk_flat import triton

    queries, keys = (torch.randn(count, 64, device="cuda") for count in (3, 300_000))
    expected = triton.search(queries, keys, 32)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = triton.search(queries, keys, 32)
    found.ids.zero_()
    graph.replay()
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.scores, expected.scores)
