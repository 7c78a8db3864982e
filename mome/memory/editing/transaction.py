"""The changes of one edit to bank, router and facts, recorded so that they can be undone and repeated bit for bit.

The tensors of a record: `ids` [t] int64, the rows written; of each table of the bank `before/TABLE` and `after/TABLE`,
those that were touched then (`before/steps` and `after/steps` [t, 1] say which), unless all zero; `removed/` and
`added/` with `queries`, `ids` and `weights` of anchors. Its body: the `old` and the `new` fact, their `place` among
the facts, the numbers (`places`) of the removed anchors, the owners of the `removed/` and the `added/` ones, and
`null_keys`, the least score before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from mome.adapter.bank import IDS, ROWS, STEPS, Bank
from mome.adapter.model import MomeModel
from mome.adapter.router import Router
from mome.facts.fact import Fact
from mome.memory.editing.holdings import Holdings, whole
from mome.memory.editing.journal import Edit, EditRecord

BEFORE, AFTER, REMOVED, ADDED = "before/", "after/", "removed/", "added/"
PLACES, NULL_KEYS = "places", "null_keys"
Images = dict[str, Tensor]


class Transaction:
    """The changes of one edit, which replaces the fact `old` by `new` (None: no fact); recorded as they are made."""

    def __init__(self, mome: MomeModel, holdings: Holdings, old: Fact | None, new: Fact | None) -> None:
        self.mome, self.holdings, self.old, self.new = mome, holdings, old, new
        held = list(holdings.facts)
        self.place = len(held) if old is None else held.index(old.id)
        self.before: dict[int, Images] = {}
        self.removed: dict[int, str | None] = {}
        self.added: list[str | None] = []
        self.images = {kind: _anchors(mome.router, []) for kind in (REMOVED, ADDED)}
        self.null_keys = [mome.router.min_score] * 2
        self.replaced = False

    def replace(self, places: Sequence[int], anchors: Mapping[str, Tensor], owners: Sequence[str | None]) -> None:
        """Replace the fact, and the anchors with the numbers `places` by new ones behind the others.

        `anchors` has `queries`, `ids` and `weights` as `Anchors` names them, `owners` the fact of each.
        """
        router, holdings = self.mome.router, self.holdings
        self.removed, self.added = {place: holdings.owners[place] for place in sorted(places)}, list(owners)
        self.images = {REMOVED: _anchors(router, [*self.removed]), ADDED: dict(anchors)}
        _take_out(router, holdings, [*self.removed])
        _append(router, holdings, anchors, owners)
        holdings.put(self.place, self.old, self.new, router)
        self.replaced = True

    def raise_null_key(self, least: float) -> None:
        """Raise the rejection threshold to `least`, if it is below that."""
        before = self.null_keys[0]
        if before is not None and least > before:
            self.null_keys[1] = least
            self.mome.set_min_score(least)

    def forget_rows(self, ids: Sequence[int]) -> None:
        """Make these rows untouched."""
        self._take_down(ids)
        for table in self.mome.bank.tables.values():
            table.index_fill_(0, whole(ids), 0)

    def write_rows(self, ids: Tensor, rows: Mapping[str, Tensor]) -> None:
        """Store trained rows. Their optimizer state is dropped, so that the next optimizer starts at its first step."""
        self._take_down(ids.tolist())
        bank = self.mome.bank
        for name in bank.tables:
            if name != STEPS and not name.startswith(ROWS):
                bank.tables[name].index_fill_(0, ids, 0)
        bank.write(ids, rows)

    def record(self, edit: Edit) -> EditRecord:
        """What was done, as `edit`."""
        bank, ids = self.mome.bank, sorted(self.before)
        tensors = {IDS: whole(ids)}
        if ids:
            first = {name: torch.stack([self.before[row][name] for row in ids]) for name in bank.tables}
            tensors |= _packed(BEFORE, first) | _packed(AFTER, _rows(bank, ids))
        for kind, images in self.images.items():
            tensors |= {kind + name: values for name, values in images.items() if len(values)}
        facts = {name: fact and asdict(fact) for name, fact in (("old", self.old), ("new", self.new))}
        owners = {PLACES: [*self.removed], REMOVED: [*self.removed.values()], ADDED: self.added}
        return EditRecord(edit, {**facts, **owners, "place": self.place, NULL_KEYS: self.null_keys}, tensors)

    def undo(self, edit: Edit) -> None:
        """Put everything back as it was before the transaction `edit`."""
        record = self.record(edit)
        _write(self.mome.bank, record, BEFORE)
        self.mome.set_min_score(self.null_keys[0])
        if self.replaced:
            _put_back(record, self.mome.router, self.holdings)

    def _take_down(self, ids: Sequence[int]) -> None:
        fresh = [row for row in ids if row not in self.before]
        images = _rows(self.mome.bank, fresh)
        for place, row in enumerate(fresh):
            self.before[row] = {name: values[place] for name, values in images.items()}


def repeat(record: EditRecord, mome: MomeModel, holdings: Holdings) -> None:
    """Make the changes of `record` in the state before it."""
    _write(mome.bank, record, AFTER)
    mome.set_min_score(record.body[NULL_KEYS][1])
    _take_out(mome.router, holdings, record.body[PLACES])
    _append(mome.router, holdings, _images(record, ADDED, mome.router), record.body[ADDED])
    holdings.put(record.body["place"], _fact(record.body["old"]), _fact(record.body["new"]), mome.router)


def unwind(record: EditRecord, mome: MomeModel, holdings: Holdings) -> None:
    """Take the changes of `record` back in the state after it."""
    _write(mome.bank, record, BEFORE)
    mome.set_min_score(record.body[NULL_KEYS][0])
    _put_back(record, mome.router, holdings)


def _put_back(record: EditRecord, router: Router, holdings: Holdings) -> None:
    """Facts and anchors as they were before `record`."""
    _drop_last(router, holdings, len(record.body[ADDED]))
    removed = dict(zip(record.body[PLACES], record.body[REMOVED], strict=True))
    _put_in(router, holdings, removed, _images(record, REMOVED, router))
    holdings.put(record.body["place"], _fact(record.body["new"]), _fact(record.body["old"]), router)


# --- rows ----------------------------------------------------------------------------------------------------------


def _rows(bank: Bank, ids: Sequence[int]) -> Images:
    """The rows as they are stored, of every table."""
    return {name: table.index_select(0, whole(ids)) for name, table in bank.tables.items()}


def _packed(kind: str, images: Images) -> Images:
    """`steps`, and the other tables' rows that were touched, without tables that are zero there."""
    touched = images[STEPS].view(-1) > 0
    kept = {name: values[touched] for name, values in images.items() if name != STEPS}
    return {kind + STEPS: images[STEPS]} | {kind + name: values for name, values in kept.items() if values.any()}


def _write(bank: Bank, record: EditRecord, kind: str) -> None:
    """Store the rows of `record` as they were before or after it."""
    ids = record.tensors[IDS]
    if not len(ids):
        return
    touched = ids[record.tensors[kind + STEPS].view(-1) > 0]
    for name, values in record.tensors.items():  # another bank may lack an optimizer's tables
        if name.startswith(kind) and name != kind + STEPS:
            bank.table(name.removeprefix(kind), values.shape[1], values.dtype)
    for name, table in bank.tables.items():
        table.index_fill_(0, ids, 0)
        if name != STEPS and kind + name in record.tensors:
            table.index_copy_(0, touched, record.tensors[kind + name])
    bank.tables[STEPS].index_copy_(0, ids, record.tensors[kind + STEPS])


# --- anchors -------------------------------------------------------------------------------------------------------


def _anchors(router: Router, places: Sequence[int]) -> Images:
    return {name: values[whole(places)] for name, values in router.anchors.tensors().items()}


def _images(record: EditRecord, kind: str, router: Router) -> Images:
    return {name: record.tensors.get(kind + name, none) for name, none in _anchors(router, []).items()}


def _take_out(router: Router, holdings: Holdings, places: Sequence[int]) -> None:
    if places:
        kept = torch.ones(len(holdings.owners), dtype=torch.bool)
        kept[whole(places)] = False
        router.anchors.restore({name: values[kept] for name, values in router.anchors.tensors().items()})
        holdings.owners = [owner for owner, stays in zip(holdings.owners, kept.tolist(), strict=True) if stays]


def _put_in(router: Router, holdings: Holdings, removed: Mapping[int, str | None], images: Images) -> None:
    """The inverse of `_take_out`: `removed` maps the numbers that anchors shall have, ascending, to their owners."""
    if removed:
        places = whole([*removed])
        stays = torch.ones(len(holdings.owners) + len(removed), dtype=torch.bool)
        stays[places] = False
        merged = {}
        for name, values in router.anchors.tensors().items():
            merged[name] = values.new_empty(len(stays), values.shape[1])
            merged[name][stays], merged[name][places] = values, images[name]
        router.anchors.restore(merged)
        for place, owner in removed.items():
            holdings.owners.insert(place, owner)


def _append(router: Router, holdings: Holdings, anchors: Mapping[str, Tensor], owners: Sequence[str | None]) -> None:
    if owners:
        router.anchors.restore(
            {name: torch.cat([values, anchors[name]]) for name, values in router.anchors.tensors().items()}
        )
        holdings.owners += owners


def _drop_last(router: Router, holdings: Holdings, count: int) -> None:
    if count:
        router.anchors.restore({name: values[:-count].clone() for name, values in router.anchors.tensors().items()})
        holdings.owners = holdings.owners[:-count]


def _fact(values: dict[str, Any] | None) -> Fact | None:
    if values is None:
        return None
    return Fact(**{**values, "phrasings": tuple(values["phrasings"]), "held_out": tuple(values["held_out"])})
