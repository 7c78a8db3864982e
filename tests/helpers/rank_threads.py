"""Ranks as threads of one process, which give tensors to each other directly; the bytes on the way are counted."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from mome.train.ranks.group import Ranks

SECONDS = 30  # that one thread waits for the others


class Silent:
    """A pulse that nobody feels."""

    def note(self, doing: str) -> None:
        """Nothing."""


class Table:
    """Where `size` threads exchange tensors; `bytes` went between two different ones."""

    def __init__(self, size: int) -> None:
        self.size, self.bytes = size, 0
        self.laid: dict[int, list[Tensor]] = {}
        self.barrier = threading.Barrier(size)


class ThreadRanks(Ranks):
    """A rank at a table."""

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__(rank, table.size, torch.device("cpu"), Silent())  # type: ignore[arg-type]
        self.table = table

    def _all_to_all(self, what: str, values: Tensor, going: list[int], coming: list[int]) -> Tensor:
        self.table.laid[self.rank] = list(values.split(going))
        self.table.barrier.wait(SECONDS)
        received = [self.table.laid[other][self.rank] for other in range(self.size)]
        assert [len(part) for part in received] == coming
        if self.rank == 0:
            parts = [part for one, laid in self.table.laid.items() for to, part in enumerate(laid) if one != to]
            self.table.bytes += sum(part.nbytes for part in parts)
        self.table.barrier.wait(SECONDS)
        return torch.cat(received)


def together(size: int, part: Callable[[ThreadRanks], Any]) -> tuple[list[Any], int]:
    """What `part` returns on each of `size` ranks, and the bytes that went between them."""
    table = Table(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: part(ThreadRanks(rank, table)), range(size))), table.bytes
