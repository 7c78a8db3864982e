"""Product keys in Triton: the same ids and bits as the reference, whatever the shapes, numbers and number types."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from mome.kernels.topk_product_key import topk_product_key

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
# Triton's interpreter computes with numpy, which speaks up where a GPU returns infinity or NaN in silence.
quiet = pytest.mark.filterwarnings("ignore:.* encountered:RuntimeWarning")


def brute_force(queries: Tensor, first: Tensor, second: Tensor, k: int) -> Tensor:
    """The ids by a full stable sort of all sums of two f32 half scores in f64."""
    left, right = queries.double().split(first.shape[1], dim=1)
    sums = (left @ first.double().T).float().double()[:, :, None] + (right @ second.double().T).float().double()[
        :, None
    ]
    return sums.flatten(1).sort(dim=1, descending=True, stable=True).indices[:, :k]


def normal(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_found(queries: Tensor, first: Tensor, second: Tensor, k: int, device: str) -> None:
    """The ids are those of brute force, the bits of the scores those of the reference on the CPU."""
    scores, ids = topk_product_key(*(value.to(device) for value in (queries, first, second)), k, impl="triton")
    assert torch.equal(ids.cpu(), brute_force(queries, first, second, k))
    expected = topk_product_key(queries, first, second, k, impl="reference")[0]
    assert torch.equal(scores.cpu().view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize(
    ("questions", "sizes", "width", "k", "dtype"),
    [
        (1, (1, 1), 1, 1, F32),
        (17, (1, 50), 3, 2, BF16),
        (2, (50, 1), 3, 50, F16),
        (2, (7, 13), 130, 1, F32),
        (2, (6, 9), 4, 54, BF16),
        (2, (64, 65), 32, 32, F32),
        (1, (33, 97), 64, 59, F16),
        (1, (300, 411), 16, 33, F32),
        (1, (130, 70), 70, 32, BF16),
    ],
)
def test_finds_what_the_reference_finds(
    questions: int, sizes: tuple[int, int], width: int, k: int, dtype: torch.dtype, device: str
):
    first, second = (normal(size, width, dtype=dtype, seed=size) for size in sizes)
    assert_found(normal(questions, 2 * width, dtype=dtype), first, second, k, device)


def test_number_types_and_strides_can_differ(device: str):
    queries, first, second = normal(20, 3), normal(5, 40, dtype=BF16, seed=1), normal(90, 5, dtype=F16, seed=2)
    assert_found(queries.T[:, ::2], first.T, second[::2], 9, device)


@pytest.mark.parametrize("k", [8, 31])
@pytest.mark.parametrize("values", [1, 2])
def test_ties_go_to_the_lowest_id(values: int, k: int, device: str):
    generator = torch.Generator().manual_seed(k)
    shapes = (2, 4), (40, 2), (35, 2)
    queries, first, second = (torch.randint(0, values, shape, generator=generator).float() for shape in shapes)
    assert_found(queries, first, second, k, device)


@pytest.mark.parametrize("k", [3, 54])
def test_sums_too_far_apart_for_f64_are_compared_exactly(k: int, device: str):
    """Half scores between 1e-30 and 1e30, where f64 rounds different sums to one; fractions do not round."""
    first = torch.tensor([1.0, 1e30, -1e30, 0.0, 1e-30, 2e-30])[:, None]
    second = torch.tensor([1e-30, 1e30, 1e10, -1.0, -1e30, 2e-30, 0.0, -0.0, 1.0])[:, None]
    sums = [Fraction(a) + Fraction(b) for a in first.flatten().tolist() for b in second.flatten().tolist()]
    expected = sorted(range(len(sums)), key=lambda pair: (-sums[pair], pair))[:k]
    given = torch.ones(1, 2, device=device), first.to(device), second.to(device)
    scores, ids = topk_product_key(*given, k, impl="triton")
    assert ids[0].tolist() == expected
    assert scores[0].tolist() == torch.tensor([float(sums[pair]) for pair in expected]).tolist()


@quiet
@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize(("half", "bad"), [(1, float("nan")), (2, -float("inf")), (1, 3e38), (0, float("nan"))])
def test_scores_that_are_no_numbers_are_refused(half: int, bad: float, impl: str, device: str):
    """A half score of 3e38 is finite, the sum of two is not."""
    given = [torch.ones(2, 2, device=device), torch.ones(5, 1, device=device), torch.ones(40, 1, device=device)]
    given[half][-1] = bad
    if bad == 3e38:
        given[2][3] = bad
    with pytest.raises(ValueError, match=f"scores of query {1 if half == 0 else 0} are not finite"):
        topk_product_key(*given, 2, impl=impl)


def test_every_number_of_a_buffer_is_written(device: str, monkeypatch: pytest.MonkeyPatch):
    given = normal(2, 6).to(device), normal(37, 3, seed=1).to(device), normal(5, 3, seed=2).to(device)
    expected = topk_product_key(*given, 8, impl="triton")
    empty = Tensor.new_empty

    def poisoned(*args, **more):
        made = empty(*args, **more)
        return made.fill_(float("nan") if made.is_floating_point() else 1)

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    found = topk_product_key(*given, 8, impl="triton")
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_a_question_alone_gets_what_it_gets_in_any_batch(device: str):
    queries, first, second = (
        normal(count, width, seed=count).to(device) for count, width in ((4, 14), (70, 7), (33, 7))
    )
    scores, ids = topk_product_key(queries, first, second, 8, impl="triton")
    for start, stop in ((3, 4), (1, 4), (0, 4)):
        some = topk_product_key(queries[start:stop], first, second, 8, impl="triton")
        assert torch.equal(some[0], scores[start:stop]) and torch.equal(some[1], ids[start:stop])


def test_no_question_gets_no_answer(device: str):
    halves = torch.ones(9, 2, device=device)
    scores, ids = topk_product_key(torch.ones(0, 4, device=device), halves, halves, 3, impl="triton")
    assert scores.shape == ids.shape == (0, 3)


@pytest.mark.parametrize("impl", ["auto", "reference", "triton"])
def test_the_operation_is_what_torch_expects_of_it(impl: str, device: str):
    operation = torch.ops.mome.topk_product_key.default
    given = normal(2, 6).to(device), normal(5, 3, seed=1).to(device), normal(4, 3, seed=2).to(device)
    torch.library.opcheck(operation, (*given, 4, impl))


def test_a_compiled_function_searches_too(device: str):
    queries, first, second = normal(2, 6).to(device), normal(5, 3, seed=1).to(device), normal(4, 3, seed=2).to(device)
    search = torch.compile(lambda some: topk_product_key(2 * some, first, second, 4), backend="eager", fullgraph=True)
    scores, ids = search(queries.requires_grad_())
    expected = topk_product_key(2 * queries, first, second, 4)
    assert torch.equal(scores, expected[0]) and torch.equal(ids, expected[1])
    assert not scores.requires_grad


@pytest.mark.parametrize(
    ("sizes", "k", "message"),
    [((8193, 1), 1, "no more than 8192 half keys, and there are 8193"), ((60, 70), 60, "k = 60 needs 2")],
)
def test_what_the_kernels_cannot_rank_is_refused_or_left_to_the_reference(
    sizes: tuple[int, int], k: int, message: str, device: str
):
    queries, first, second = normal(1, 2), normal(sizes[0], 1, seed=1), normal(sizes[1], 1, seed=2)
    given = queries.to(device), first.to(device), second.to(device)
    with pytest.raises(RuntimeError, match=message):
        topk_product_key(*given, k, impl="triton")
    assert torch.equal(topk_product_key(*given, k)[1].cpu(), brute_force(queries, first, second, k))


@pytest.mark.gpu
@needs_gpu
def test_a_million_pairs_are_searched_alike_in_twenty_runs_and_in_a_graph():
    from mome.kernels.topk_product_key import triton

    queries, first, second = normal(9, 128), normal(1024, 64, seed=1), normal(1024, 64, seed=2)
    assert_found(queries, first, second, 32, "cuda")
    given = queries.cuda(), first.cuda(), second.cuda()
    expected = triton.search(*given, 32)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = triton.search(*given, 32)
    for _ in range(20):
        found.ids.zero_()
        graph.replay()
        assert torch.equal(found.scores, expected.scores) and torch.equal(found.ids, expected.ids)
