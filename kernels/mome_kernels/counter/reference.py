"""Counter-based random bits in plain torch: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) on int64 that wraps around."""

from __future__ import annotations

import torch

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, an odd number: SplitMix64's step from one word to the next
# the shifts and factors of SplitMix64's output function, as published
FIRST = (30, 0xBF58476D1CE4E5B9)
SECOND = (27, 0x94D049BB133111EB)
LAST_SHIFT = 31
WORD = 2**64  # words wrap around here


def uniform(seed: int, stream: int, ids: torch.Tensor, width: int) -> torch.Tensor:
    """See `mome.kernels.counter.uniform`."""
    # a word of 64 bits makes two numbers: [n, ceil(width / 2)] int64 -> [n, width] int32
    words = _hashes(seed, stream, ids, -(-width // 2)).view(torch.int32)[:, :width]
    # f32 holds 24 bits exactly, so the upper 24 are kept; the mask takes off the copies of the sign that >> fills in
    return (words >> 8).bitwise_and_(2**24 - 1).to(torch.float32).mul_(2.0**-24)


def stochastic_round(rows: torch.Tensor, seed: int, step: int, ids: torch.Tensor) -> torch.Tensor:
    """See `mome.kernels.counter.stochastic_round`."""
    width = rows.shape[1]
    # a word of 64 bits serves four numbers: [n, ceil(width / 4)] int64 -> [n, width] int16
    chances = _hashes(seed, step, ids, -(-width // 4)).view(torch.int16)[:, :width]
    # bf16 is the upper half of f32: adding a uniform 16-bit number to the lower half carries as often as it should.
    carried = rows.contiguous().view(torch.int32) + chances.to(torch.int32).bitwise_and_(0xFFFF)  # 0 to 65535
    rounded = carried.bitwise_and_(-0x10000).view(torch.float32)  # the lower half cleared: [n, width] f32
    return torch.where(rows.isnan(), rows, rounded).to(torch.bfloat16)


def _hashes(seed: int, stream: int, ids: torch.Tensor, columns: int) -> torch.Tensor:
    """64 random bits for each id and column: [n, columns] int64."""
    if not len(ids):
        return ids.new_empty(0, columns)  # a sum of no rows may get strides that cannot be viewed as another dtype
    bases = _mix(ids * signed(GOLDEN) + signed(start_of(seed, stream)))  # [n]
    steps = torch.arange(1, columns + 1, device=ids.device) * signed(GOLDEN)  # [columns]; from 1, so that none is 0
    return _mix(bases[:, None] + steps)  # [n, 1] + [columns] -> [n, columns]


def _mix(words: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output function, in place."""
    for shift, factor in (FIRST, SECOND):
        words = words.bitwise_xor_(_shift_right(words, shift)).mul_(signed(factor))
    return words.bitwise_xor_(_shift_right(words, LAST_SHIFT))


def _shift_right(words: torch.Tensor, by: int) -> torch.Tensor:
    """A shift that fills with zeros; torch's fills with the sign."""
    return (words >> by).bitwise_and_(2 ** (64 - by) - 1)


def start_of(seed: int, stream: int) -> int:
    """The unsigned word from which the hashes of (seed, stream) start."""
    return _mix_number(_mix_number(seed) + stream * GOLDEN)


def _mix_number(number: int) -> int:
    """`_mix` of one Python integer, as an unsigned word."""
    word = number % WORD
    for shift, factor in (FIRST, SECOND):
        word = (word ^ (word >> shift)) * factor % WORD
    return word ^ (word >> LAST_SHIFT)


def signed(word: int) -> int:
    """The int64 with the same bits."""
    word %= WORD
    return word - WORD if word >= WORD // 2 else word
