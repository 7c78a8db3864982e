"""Rows of the bank on their way: from their owners to the rank that trains them, and back. Gradients never travel.

The owner of row i is rank i mod K. Between rounds a row is stored at its owner alone. A row travels with all that the
bank's tables hold of it (values, counters, optimizer state), as the bytes that are stored, and its id as 8 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mome.adapter.bank import IDS, ROWS, STEPS, Bank
from mome.train.ranks.group import Ranks

Names = Sequence[str]


def bytes_of_group(bank: Bank, names: Names, foreign: int, ranks: int, back: bool) -> int:
    """Bytes that K `ranks` send in all, so that they get `foreign` rows of other owners, and with `back` return them.

    Of each exchange the sizes are counted too: 8 bytes for each ordered pair of ranks, in two exchanges for each way.
    """
    way = foreign * (8 + width(bank, names)) + 2 * 8 * ranks * (ranks - 1)
    return way * (1 + back)


def width(bank: Bank, names: Names) -> int:
    """The bytes of one row in the tables `names`."""
    return sum(bank.tables[name].shape[1] * bank.tables[name].dtype.itemsize for name in names)


def table_names(bank: Bank, optimizer: bool = True) -> list[str]:
    """The bank's tables in an order that is the same on all ranks; perhaps without those of optimizers."""
    return sorted(name for name in bank.tables if optimizer or name == STEPS or name.startswith(ROWS))


def foreign(ranks: Ranks, ids: Tensor) -> Tensor:
    """Those of `ids` (int64 [n]) that another rank owns."""
    return ids[ids % ranks.size != ranks.rank]


def fetch(ranks: Ranks, bank: Bank, ids: Tensor, names: Names) -> None:
    """Bring the rows `ids` (int64 [n], distinct) here from their owners, of the tables `names`.

    Raises:
        RankError: as `Ranks.exchange`.
    """
    wanted = _by_owner(ranks, ids)
    asked = ranks.exchange("the ids of the next rows", [_bytes(part) for part in wanted])
    replies = [_packed(bank, _ids(part), names) for part in asked]
    for part, reply in zip(wanted, ranks.exchange("the next rows", replies), strict=True):
        _put(bank, part, reply, names)


def send_home(ranks: Ranks, bank: Bank, ids: Tensor) -> None:
    """Give the rows `ids` (int64 [n], distinct), with all tables, to their owners; here they become untouched.

    Raises:
        RankError: as `Ranks.exchange`.
    """
    names, going = table_names(bank), _by_owner(ranks, ids)
    coming = ranks.exchange("the ids of trained rows", [_bytes(part) for part in going])
    rows = ranks.exchange("trained rows", [_packed(bank, part, names) for part in going])
    for part, reply in zip(coming, rows, strict=True):
        _put(bank, _ids(part), reply, names)
    forget(bank, foreign(ranks, ids))


def forget(bank: Bank, ids: Tensor) -> None:
    """Make the rows `ids` (int64 [n]) untouched."""
    for table in bank.tables.values():
        table.index_fill_(0, ids, 0)


def gathered(ranks: Ranks, bank: Bank, optimizer: bool) -> dict[str, Tensor] | None:
    """On rank 0 the touched rows of all ranks, as `Bank.members` gives them; None on the others.

    Raises:
        RankError: as `Ranks.exchange`.
    """
    names, own = table_names(bank, optimizer), bank.touched()
    nothing = [own[:0]] * (ranks.size - 1)
    ids = ranks.exchange("the ids of rows to save", [_bytes(part) for part in (own, *nothing)])
    rows = ranks.exchange("rows to save", [_packed(bank, part, names) for part in (own, *nothing)])
    if ranks.rank:
        return None
    every = torch.cat([_ids(part) for part in ids])
    order = every.argsort()
    values = _unpacked(bank, torch.cat(rows), names)
    return {IDS: every[order], **{name: values[name][order] for name in bank.tables if name in values}}


def _by_owner(ranks: Ranks, ids: Tensor) -> list[Tensor]:
    """Of `ids` those of each rank; none for this one, whose rows stay where they are."""
    parts = [ids[ids % ranks.size == rank] for rank in range(ranks.size)]
    parts[ranks.rank] = ids[:0]
    return parts


def _packed(bank: Bank, ids: Tensor, names: Names) -> Tensor:
    """The rows as bytes, uint8 [n * width]: row by row, in each the tables in the order of `names`."""
    parts = [bank.tables[name].index_select(0, ids).view(len(ids), bank.tables[name].shape[1]) for name in names]
    return torch.cat([_bytes(part).view(len(ids), _size(bank, name)) for part, name in zip(parts, names, strict=True)],
                     dim=1).view(-1)  # fmt: skip


def _unpacked(bank: Bank, content: Tensor, names: Names) -> dict[str, Tensor]:
    """Table -> [n, width of the table], what `_packed` made bytes of."""
    sizes = [_size(bank, name) for name in names]
    columns = content.view(-1, sum(sizes)).split(sizes, dim=1)
    # cloned: a tensor of another dtype must start where its own size divides the address
    return {name: part.clone(memory_format=torch.contiguous_format).view(bank.tables[name].dtype)
            for name, part in zip(names, columns, strict=True)}  # fmt: skip


def _put(bank: Bank, ids: Tensor, content: Tensor, names: Names) -> None:
    for name, values in _unpacked(bank, content, names).items():
        bank.tables[name].index_copy_(0, ids, values)


def _size(bank: Bank, name: str) -> int:
    return bank.tables[name].shape[1] * bank.tables[name].dtype.itemsize


def _bytes(values: Tensor) -> Tensor:
    """A contiguous tensor's content, uint8 [bytes]."""
    return values.contiguous().view(-1).view(torch.uint8)


def _ids(content: Tensor) -> Tensor:
    return content.clone().view(torch.int64)
