"""Counter-based random numbers: their distribution, their independence, and what rounding does with them."""

import pytest
import torch
from scipy import stats

from mome.kernels.counter import stochastic_round, uniform

WORD = 2**64


def splitmix(state: int) -> int:
    """SplitMix64's published output function, in Python integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % WORD
    return state ^ (state >> 31)


def scalar_uniform(seed: int, stream: int, row: int, column: int) -> float:
    golden = 0x9E3779B97F4A7C15
    start = splitmix((splitmix(seed % WORD) + stream * golden) % WORD)
    base = splitmix((row * golden + start) % WORD)
    word = splitmix((base + (column // 2 + 1) * golden) % WORD)
    half = word >> 32 if column % 2 else word % 2**32
    return (half >> 8) / 2**24


# --- uniform -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (7, 3), (-1, 2**63), (2**64 + 5, -9)])
def test_equals_the_hash_in_python_integers(seed: int, stream: int):
    ids = torch.tensor([0, 5, 999_999, 2**62])
    numbers = uniform(seed, stream, ids, 7)
    assert numbers.dtype == torch.float32
    assert numbers.tolist() == [
        [scalar_uniform(seed, stream, row, column) for column in range(7)] for row in ids.tolist()
    ]


def test_the_mixing_is_that_of_splitmix64():
    """The first outputs for seed 1234567, as other implementations give them."""
    golden = 0x9E3779B97F4A7C15
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix((1234567 + i * golden) % WORD) for i in (1, 2, 3)] == expected


def test_is_uniform_in_zero_to_one():
    numbers = uniform(1, 2, torch.arange(2000), 101).flatten().double()
    assert numbers.min() >= 0 and numbers.max() < 1
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.001
    assert abs(numbers.mean() - 0.5) < 4 / (12 * len(numbers)) ** 0.5


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (1, 1), (0, 2), (16, 0)])
def test_neighbours_are_uncorrelated(shift: tuple[int, int]):
    numbers = uniform(3, 0, torch.arange(600), 300).double() - 0.5
    rows, columns = shift
    product = numbers[rows:, columns:] * numbers[: 600 - rows, : 300 - columns]
    assert abs(product.mean()) < 4 / 12 / product.numel() ** 0.5


@pytest.mark.parametrize("other", [(4, 0), (3, 1), (0, 3)])
def test_seeds_and_streams_are_uncorrelated(other: tuple[int, int]):
    ids = torch.arange(500)
    product = (uniform(3, 0, ids, 200).double() - 0.5) * (uniform(*other, ids, 200).double() - 0.5)
    assert abs(product.mean()) < 4 / 12 / product.numel() ** 0.5


def test_a_row_depends_on_no_other_row_and_a_column_on_no_other_column():
    ids = torch.tensor([8, 3, 8, 123_456_789, 0])
    numbers = uniform(5, 6, ids, 31)
    assert torch.equal(numbers[0], numbers[2])
    for position in range(len(ids)):
        assert torch.equal(uniform(5, 6, ids[position : position + 1], 31)[0], numbers[position])
    for width in (0, 1, 2, 30):
        assert torch.equal(uniform(5, 6, ids, width), numbers[:, :width])


def test_the_ids_asked_for_are_left_as_they_were():
    ids = torch.arange(5)
    uniform(0, 0, ids, 4)
    stochastic_round(torch.randn(5, 4), 0, 0, ids)
    assert torch.equal(ids, torch.arange(5))


# --- stochastic rounding -------------------------------------------------------------------------------------------


def test_representable_values_stay():
    values = torch.randn(40, 9).to(torch.bfloat16)
    values[0] = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 1e-40, -3e38, 2.0**-133, 1.0, -1.0])
    for step in range(30):
        rounded = stochastic_round(values.float(), 1, step, torch.arange(40))
        assert torch.equal(rounded.view(torch.int16), values.view(torch.int16))


def test_nan_stays_nan():
    patterns = torch.tensor([[0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000]], dtype=torch.int32)
    assert stochastic_round(patterns.view(torch.float32), 0, 0, torch.tensor([1])).isnan().all()


def test_rounds_to_one_of_the_two_neighbours():
    rows = torch.randn(200, 50)
    rounded = stochastic_round(rows, 0, 1, torch.arange(200))
    toward_zero = rows.view(torch.int32).bitwise_and(-0x10000).view(torch.float32)
    away = (toward_zero.view(torch.int32) + 0x10000).view(torch.float32)
    assert ((rounded.float() == toward_zero) | (rounded.float() == away)).all()


def test_the_mean_over_steps_is_the_value():
    """4,096 roundings of each value: the mean lies within 4.5 standard errors of it, for each of 60 values."""
    rows = torch.randn(4, 15, generator=torch.Generator().manual_seed(0))
    ids, times = torch.tensor([3, 1, 2, 7]), 4096
    rounded = torch.stack([stochastic_round(rows, 11, step, ids) for step in range(times)]).double()
    error = rounded.mean(dim=0) - rows.double()
    assert (error.abs() <= 4.5 * rounded.std(dim=0) / times**0.5 + 1e-12).all()


def test_the_mean_over_seeds_rows_and_columns_is_the_value():
    value = torch.tensor(1.0 + 2.0**-7 * 0.3)
    rows = value.expand(300, 101).contiguous()
    for seed in range(5):
        rounded = stochastic_round(rows, seed, 0, torch.arange(300)).double()
        up = (rounded > value).double()
        assert abs(up.mean() - 0.3) < 4.5 * (0.21 / up.numel()) ** 0.5


@pytest.mark.parametrize("above", [1, 2**16 - 1])
def test_the_rarest_chance_is_one_in_65536(above: int):
    """A value one f32 step beside a bf16 number leaves it in 48 of 2^16 * 48 roundings, give or take."""
    value = torch.tensor(0x3F800000 + above, dtype=torch.int32).view(torch.float32)
    rounded = stochastic_round(value.expand(2**11, 2**5 * 48).contiguous(), 3, above, torch.arange(2**11))
    rare = 1.0 + 2.0**-7 if above == 1 else 1.0
    assert 20 <= int((rounded == rare).sum()) <= 80


def test_a_row_rounds_alone_as_among_others():
    rows, ids = torch.randn(6, 13), torch.tensor([5, 2, 9, 2**40, 0, 7])
    rounded = stochastic_round(rows, 1, 2, ids)
    for position in range(6):
        alone = stochastic_round(rows[position, None], 1, 2, ids[position, None])
        assert torch.equal(alone[0], rounded[position])
    assert not torch.equal(stochastic_round(rows, 1, 3, ids), rounded)
    assert not torch.equal(stochastic_round(rows, 2, 2, ids), rounded)


# --- the kernel ----------------------------------------------------------------------------------------------------

IDS = torch.tensor([0, 5, 999_999, 2**62, 5, -3])
KEYS = [(0, 0), (7, 3), (-1, 2**63), (2**64 + 5, -9)]


@pytest.mark.parametrize(("seed", "stream"), KEYS)
@pytest.mark.parametrize("width", [1, 33, 1030])
def test_the_kernel_draws_the_same_bits(seed: int, stream: int, width: int, device: str):
    numbers = uniform(seed, stream, IDS.to(device), width, impl="triton")
    assert torch.equal(numbers.cpu(), uniform(seed, stream, IDS, width, impl="reference"))


@pytest.mark.parametrize(("seed", "step"), KEYS)
@pytest.mark.parametrize("width", [1, 33, 1030])
def test_the_kernel_rounds_to_the_same_bits(seed: int, step: int, width: int, device: str):
    rows = torch.randn(width, 6).t() * 1e3  # rows that do not lie side by side
    rows[0, 0] = rows[0].new_tensor([float("inf"), -float("inf"), 1e-40, 3.4e38, -0.0])[width % 5]
    rounded = stochastic_round(rows.to(device), seed, step, IDS.to(device), impl="triton")
    expected = stochastic_round(rows, seed, step, IDS, impl="reference")
    assert torch.equal(rounded.cpu().view(torch.int16), expected.view(torch.int16))


def test_the_kernel_keeps_nan(device: str):
    patterns = torch.tensor([[0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000]], dtype=torch.int32)
    rows = patterns.view(torch.float32).to(device)
    assert stochastic_round(rows, 0, 0, torch.tensor([1], device=device), impl="triton").isnan().all()


def test_the_kernel_writes_every_number(device: str, monkeypatch: pytest.MonkeyPatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **more: empty(*size, **more).fill_(float("nan")))
    ids = torch.arange(67, device=device)
    assert uniform(1, 2, ids, 45, impl="triton").isfinite().all()
    assert stochastic_round(torch.ones(67, 45, device=device), 1, 2, ids, impl="triton").isfinite().all()


@pytest.mark.parametrize("impl", ["reference", "triton"])
def test_the_operations_are_what_torch_expects_of_them(impl: str, device: str):
    ids = IDS.to(device)
    torch.library.opcheck(torch.ops.mome.uniform.default, (1, 2, ids, 7, impl))
    torch.library.opcheck(torch.ops.mome.stochastic_round.default, (torch.randn(6, 7, device=device), 1, 2, ids, impl))


@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("width", [0, 1, 3, 9])
def test_no_rows_get_no_numbers(width: int, impl: str, device: str):
    nobody = IDS[:0].to(device)
    assert uniform(0, 0, nobody, width, impl=impl).shape == (0, width)
    assert stochastic_round(torch.zeros(0, width, device=device), 0, 0, nobody, impl=impl).shape == (0, width)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform(0, 0, torch.zeros(2), 3), "ids must be .*float32"),
        (lambda: uniform(0, 0, torch.zeros(2, dtype=torch.int64), -1), "width must not be negative, got -1"),
        (lambda: stochastic_round(torch.zeros(2, 3), 0, 0, torch.zeros(1, dtype=torch.int64)), "2 rows but 1 ids"),
        (lambda: stochastic_round(torch.zeros(2).double(), 0, 0, torch.zeros(2, dtype=torch.int64)), "rows must be"),
        (lambda: uniform(0, 0, torch.arange(2), 3, impl="cuda"), "impl must be one of auto, reference, triton"),
    ],
)
def test_misuse_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
