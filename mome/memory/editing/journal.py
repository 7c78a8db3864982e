"""The journal of edits: one record for each transaction, in memory or as files that appear whole or not at all.

A record is a safetensors file `000001.safetensors`, written under another name, synced and renamed: the rename commits
the transaction. It holds the rows of the bank that the transaction wrote, before and after, and also the anchors and
the fact. Each record has a sha256 of its content, and the sha256 of the record before it; the first record has that of
the adapter. `head.json` is rewritten after every commit, so that a record missing at the end is noticed as well.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mome.files.atomic import write_atomically
from mome.files.sealed import CheckpointError
from mome.files.snapshots import save_snapshot
from mome.memory.editing.holdings import EditError

FORMAT = 2
HEAD, SUFFIX = "head.json", ".safetensors"
EDIT = "edit"


@dataclass(frozen=True, slots=True)
class Edit:
    """One transaction of the history. `kind` is add, update, delete or rollback.

    `before` and `after` are the fact's answer, None where it was not held; `to` is the transaction whose state a
    rollback brought back. `when` is UTC; `steps` counts updates of the rows, `rows` those written; `repaired` are the
    other facts that were trained along. `backbone_knows`: the backbone itself gives a deleted fact's answer.
    """

    number: int
    kind: str
    id: str | None
    question: str | None
    before: str | None
    after: str | None
    to: int | None
    when: str
    seconds: float
    steps: int = 0
    rows: int = 0
    repaired: tuple[str, ...] = ()
    backbone_knows: bool = False

    def __str__(self) -> str:
        if self.kind == "rollback":
            return f"{self.number}  {self.when}  rollback to {self.to}"
        change = " -> ".join(repr(answer) for answer in (self.before, self.after) if answer is not None)
        return f"{self.number}  {self.when}  {self.kind} {self.id}: {self.question!r} {change}"


@dataclass(frozen=True, slots=True)
class EditRecord:
    """An `edit` with what undoes and repeats it: `body` (JSON) and `tensors`, named in
    `mome.memory.editing.transaction`.
    """

    edit: Edit
    body: dict[str, Any]
    tensors: dict[str, Tensor]


class Journal:
    """The records of an adapter since it was memorized or saved; `base` is the sha256 of what the first one builds on.

    Without `folder` records stay in memory. With it, those on disk are read and verified, and later ones follow them in
    memory, or within `on_disk` on disk.
    """

    def __init__(self, base: str, folder: Path | None = None) -> None:
        self.folder, self.tip = folder, base
        self.edits: list[Edit] = []
        self.bodies: list[dict[str, Any]] = []
        self.kept: dict[int, dict[str, Tensor]] = {}
        self.writing = False
        self.behind = False
        if folder is not None:
            self._open(folder)

    def read(self, number: int) -> EditRecord:
        """The record of transaction `number`, 1 or above; raises CheckpointError if its file is damaged."""
        tensors = self.kept.get(number)
        if tensors is None:
            assert self.folder is not None
            _, _, tensors = _read(self.folder / _name(number))
        return EditRecord(self.edits[number - 1], self.bodies[number - 1], tensors)

    def append(self, record: EditRecord) -> None:
        """Commit `record`: when this returns it is on disk, if the journal writes; after an error it is not there.

        Raises:
            OSError: the disk is full or not writable.
        """
        if self.behind:
            self._write_head()
        body = {"format": FORMAT, "previous": self.tip, EDIT: asdict(record.edit), **record.body}
        tensors = {name: values.contiguous() for name, values in record.tensors.items()}
        digest = _digest(body, tensors)
        if not self.writing:
            self.kept[record.edit.number] = tensors
        else:
            assert self.folder is not None
            path = self.folder / _name(record.edit.number)
            if path.exists():
                raise CheckpointError(f"{path}: was written meanwhile; load the adapter again")
            save_snapshot(path, tensors, {"body": body, "sha256": digest})
        self.edits.append(record.edit)
        self.bodies.append(record.body)
        self.tip = digest
        if self.writing:
            self._follow()

    def path(self, number: int) -> list[int]:
        """The transactions whose changes make the state after transaction `number`, in order; 0: none."""
        found: list[int] = []
        while number:
            to = self.edits[number - 1].to
            if to is None:
                found.append(number)
            number = number - 1 if to is None else to
        return found[::-1]

    @contextmanager
    def on_disk(self) -> Iterator[None]:
        """Write the records of this time to disk; the caller holds the lock of the folder.

        Raises:
            EditError: there are edits that were made in memory alone.
            OSError: the folder is not writable.
        """
        assert self.folder is not None
        if self.kept:
            raise EditError(f"{self.folder}: {len(self.kept)} edits were made in memory alone")
        for leftover in self.folder.glob(".*"):  # of a killed process
            leftover.unlink()
        self._write_head()
        self.writing = True
        try:
            yield
        finally:
            self.writing = False

    def _open(self, folder: Path) -> None:
        (least, digest), numbers = _read_head(folder), _numbers(folder)
        most = _read_head(folder)[0] + 1  # a living writer may have gone on
        for number in range(1, max([least, *numbers]) + 1):
            if number not in numbers:
                raise CheckpointError(f"{folder / _name(number)}: this edit is missing; restore the folder from a copy")
            self._take(folder / _name(number), number)
            if number == least and self.tip != digest:
                raise CheckpointError(f"{folder / _name(number)}: is not the edit that {HEAD} names")
        if len(numbers) > most:
            raise CheckpointError(f"{folder / HEAD}: names {most - 1} edits, there are {len(numbers)}")

    def _take(self, path: Path, number: int) -> None:
        body, digest, _ = _read(path)
        if body["previous"] != self.tip:
            what = "of the adapter" if number == 1 else f"of {_name(number - 1)}"
            raise CheckpointError(f"{path}: does not follow the state {what} beside it")
        values = body.pop(EDIT)
        if values["number"] != number:
            raise CheckpointError(f"{path}: is edit {values['number']}, not {number}")
        self.edits.append(Edit(**{**values, "repaired": tuple(values["repaired"])}))
        self.bodies.append({name: value for name, value in body.items() if name not in ("format", "previous")})
        self.tip = digest

    def _follow(self) -> None:
        """Write the head after a commit. The commit holds even if the disk has no room for the head."""
        self.behind = True
        try:
            self._write_head()
        except OSError as error:
            warnings.warn(f"{self.folder}: the edit is safe, but {HEAD} cannot be written ({error})", stacklevel=2)

    def _write_head(self) -> None:
        assert self.folder is not None
        write_json(self.folder / HEAD, {"edits": len(self.edits), "sha256": self.tip})
        self.behind = False


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a small JSON file that appears whole or not at all; raises OSError, naming it, where that fails."""
    write_atomically(path, json.dumps(values, indent=1))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; raises CheckpointError naming a file that is not that."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); restore it from a copy") from error


def _name(number: int) -> str:
    return f"{number:06d}{SUFFIX}"


def _numbers(folder: Path) -> set[int]:
    names = [path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")]
    wrong = [name for name in names if not name.isdecimal() or _name(int(name)) != name + SUFFIX]
    if wrong:
        raise CheckpointError(f"{folder / wrong[0]}{SUFFIX}: is not the name of an edit")
    return {int(name) for name in names}


def _read_head(folder: Path) -> tuple[int, str]:
    path = folder / HEAD
    if not path.is_file():
        return 0, ""
    found = read_json(path)
    if not isinstance(found.get("edits"), int) or not isinstance(found.get("sha256"), str):
        raise CheckpointError(f"{path}: does not say which edits there are; restore it from a copy")
    return found["edits"], found["sha256"]


def _read(path: Path) -> tuple[dict[str, Any], str, dict[str, Tensor]]:
    """Body, sha256 and tensors of a record, verified."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            body, digest = dict(state["body"]), str(state["sha256"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable edit ({error}); restore the folder from a copy") from error
    if body.get("format") != FORMAT:
        raise CheckpointError(f"{path}: has format {body.get('format')!r}, but this version of mome reads {FORMAT}")
    if _digest(body, tensors) != digest:
        raise CheckpointError(f"{path}: damaged, its content and its sha256 disagree; restore the folder from a copy")
    return body, digest, tensors


def _digest(body: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    for name, values in sorted(tensors.items()):
        found.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        found.update(values.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
