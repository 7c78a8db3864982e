"""Which facts each rank trains in a round: no two ranks train the same row at the same time.

Facts are dealt one by one, in the order in which they wait. A fact whose experts nobody has yet goes to the rank with
the fewest facts (of several the lowest). One that shares an expert with the facts of one rank goes to that rank. One
that shares experts with two ranks, or whose rank is full, waits for the next round, and so does what the facts before
it leave no room for. So the rounds depend on the facts, their experts and K alone.
"""

from __future__ import annotations

from collections.abc import Sequence


def deal(
    waiting: Sequence[int], experts: Sequence[Sequence[int]], ranks: int, size: int
) -> tuple[list[list[int]], list[int]]:
    """The facts of each rank, at most `size`, and those that wait for a later round, both in the order of `waiting`.

    `experts[fact]` has the ids of the rows that training the fact changes. While a fact waits, one is dealt.
    """
    groups: list[list[int]] = [[] for _ in range(ranks)]
    trained_by: dict[int, int] = {}  # row -> rank
    later: list[int] = []
    for place, fact in enumerate(waiting):
        if all(len(group) == size for group in groups):
            return groups, [*later, *waiting[place:]]
        rank = _rank_for({trained_by[row] for row in experts[fact] if row in trained_by}, groups)
        if rank is None or len(groups[rank]) == size:
            later.append(fact)
        else:
            groups[rank].append(fact)
            trained_by.update((row, rank) for row in experts[fact])
    return groups, later


def _rank_for(sharing: set[int], groups: Sequence[Sequence[int]]) -> int | None:
    """The rank that may train a fact that shares rows with the ranks `sharing`; None: it has to wait."""
    if not sharing:
        return min(range(len(groups)), key=lambda rank: len(groups[rank]))
    return sharing.pop() if len(sharing) == 1 else None
