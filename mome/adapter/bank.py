"""The bank: tables with the rows of N experts, of which only written pages take memory (or a memory-mapped file).

A row is what one expert adds to one module: its slices a [rank, d_in] and b [rank, d_out], flattened, a first. A row
that was never written is not stored: its a is drawn from (seed, module, row) on reading, and its b is zero. So a bank
of any size is made at once, and reading or writing n rows costs the same whatever N is.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import safetensors.torch
import torch
from torch import Tensor

from mome.adapter.tables import map_file, map_memory
from mome.files.atomic import write_atomically
from mome.kernels.counter import stochastic_round, uniform
from mome.kernels.rows_gather import rows_gather
from mome.kernels.rows_scatter import rows_scatter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int32": torch.int32}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
IDS, STEPS, ROWS = "ids", "steps", "rows/"
DESCRIPTION = "bank.json"


class BankError(ValueError):
    """An argument, a member or a folder that does not fit the bank; the message names it and its value."""


class Bank:
    """`num_experts` rows for each module of `shapes` (module -> (d_in, d_out)), as tables on the CPU.

    `dtype` is float32 or bfloat16; `seed` draws the untouched rows and rounds bfloat16 ones; `init_scale` 1 starts a as
    PEFT starts its lora_A. With `folder` the tables are sparse memory-mapped files in it, opened again by a later bank
    of the same arguments; a dying process may leave its last write half done, so `members` saves what must survive.
    A copied or pickled bank carries the touched rows, in memory. `optimizers` are those that train it now.

    Raises BankError naming the argument or file that is refused; OSError where there is no room.
    """

    def __init__(
        self,
        num_experts: int,
        shapes: Mapping[str, tuple[int, int]],
        rank: int = 1,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        folder: Path | None = None,
        init_scale: float = 1.0,
    ) -> None:
        for name, value in (("num_experts", num_experts), ("rank", rank)):
            _check_size(name, value)
        for module, sizes in shapes.items():
            for name, value in zip(("d_in", "d_out"), sizes, strict=True):
                _check_size(f"shapes[{module!r}]: {name}", value)
        if not shapes:
            raise BankError("shapes: at least one module is needed, got none")
        if dtype not in (torch.float32, torch.bfloat16):
            raise BankError(f"dtype: must be torch.float32 or torch.bfloat16, got {dtype}")
        self.num_experts, self.rank, self.dtype, self.seed, self.init_scale = num_experts, rank, dtype, seed, init_scale
        self.shapes = {module: (d_in, d_out) for module, (d_in, d_out) in shapes.items()}
        self.folder = folder
        self.tables: dict[str, Tensor] = {}
        self.optimizers: WeakSet[Any] = WeakSet()
        if folder is not None:
            self._open(folder)
        self.steps = self.table(STEPS, 1, torch.int32).view(-1)
        for module in self.shapes:
            self.table(ROWS + module, self.width(module), dtype)

    def width(self, module: str) -> int:
        """The length of a row of `module`: rank * (d_in + d_out)."""
        return self.rank * sum(self.shapes[module])

    def split(self, module: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Views of `rows` [n, width] of `module`: a [n, rank, d_in] and b [n, rank, d_out]."""
        d_in, d_out = self.shapes[module]
        a, b = rows.split((self.rank * d_in, self.rank * d_out), dim=1)
        return a.unflatten(1, (self.rank, d_in)), b.unflatten(1, (self.rank, d_out))

    def read(self, ids: Tensor, device: torch.device | None = None) -> dict[str, Tensor]:
        """Module -> new float32 [n, width], on the CPU or `device`: the rows of `ids` (int64 [n], repeats allowed)."""
        self.check_ids(ids)
        steps = self.steps.index_select(0, ids)
        if steps.all():
            return {module: rows_gather(self.tables[ROWS + module], ids, device).float() for module in self.shapes}
        known, fresh = steps.nonzero().view(-1), (steps == 0).nonzero().view(-1)
        # the stored zeros of a fresh row are left alone: reading them would load pages of a file
        stored, drawn = ids[known], ids[fresh].to(device)
        known, fresh = known.to(device), fresh.to(device)
        found = {module: torch.zeros(len(ids), self.width(module), device=device) for module in self.shapes}
        for module, rows in found.items():
            rows.index_copy_(0, known, rows_gather(self.tables[ROWS + module], stored, device).float())
            self.split(module, rows)[0].index_copy_(0, fresh, self._first_a(module, drawn))
        return found

    def _first_a(self, module: str, ids: Tensor) -> Tensor:
        """a [n, rank, d_in] of untouched rows: uniform within init_scale / sqrt(d_in) of zero."""
        d_in, _ = self.shapes[module]
        draws = uniform(self.seed, _stream(module), ids, self.rank * d_in)
        return (draws * 2 - 1).mul_(self.init_scale / math.sqrt(d_in)).unflatten(1, (self.rank, d_in))

    def write(self, ids: Tensor, rows: Mapping[str, Tensor], step: int | None = None) -> None:
        """Store `rows` (every module -> float32 [n, width]) at `ids` (int64 [n], distinct), and count it in `steps`.

        bfloat16 rows are rounded stochastically by (seed, module, step, row, column); without `step` by the number of
        times the row itself was written, so that rows written again after a restore get the same bits.
        """
        self.check_ids(ids, distinct=True)
        self.check_rows("rows", rows, len(ids))
        steps = self.steps.index_select(0, ids) + 1
        if self.dtype == torch.bfloat16:
            draws = ids + self.num_experts * (steps.long() if step is None else step)
            rows = {name: stochastic_round(values, self.seed, _stream(name), draws) for name, values in rows.items()}
        for module, values in rows.items():
            rows_scatter(self.tables[ROWS + module], ids, values)
        self.steps.index_copy_(0, ids, steps)

    def touched(self) -> Tensor:
        """The ids (int64, ascending) of the rows written so far. Scans all N counters: for saving and reporting."""
        return self.steps.nonzero().view(-1)

    def table(self, name: str, width: int, dtype: torch.dtype) -> Tensor:
        """The table `name`, [num_experts, width], zero where never written; the same one at each call.

        Raises BankError if it exists with another width or dtype, or `name` is reserved; OSError without room.
        """
        if name == IDS or dtype not in DTYPE_NAMES:
            raise BankError(f"table {name!r} of {dtype}: a name other than {IDS!r} and one of {list(DTYPES)} is needed")
        if name not in self.tables:
            _check_size(f"table {name!r}: width", width)
            self.tables[name] = self._mapped(name, width, dtype)
            self._describe()
        found = self.tables[name]
        if found.shape[1] != width or found.dtype != dtype:
            raise BankError(f"table {name!r}: has width {found.shape[1]} and {found.dtype}, not {width} and {dtype}")
        return found

    def members(self, optimizer: bool = True) -> dict[str, Tensor]:
        """The touched rows for saving: `ids` int64 [t], and every table's rows [t, width], perhaps without optimizers'.

        The names are `steps`, `rows/<module>`, and those given to `table`. Scans all N counters.
        """
        ids = self.touched()
        own = [name for name in self.tables if optimizer or name == STEPS or name.startswith(ROWS)]
        return {IDS: ids, **{name: self.tables[name].index_select(0, ids) for name in own}}

    def restore(self, members: Mapping[str, Tensor]) -> None:
        """Put the bank in the state that `members()` saved: other rows become untouched, missing tables are made.

        Raises BankError naming the member and value that does not fit; the bank is then unchanged.
        """
        self._check_members(members)
        saved = {name: values for name, values in members.items() if name != IDS}
        for name, values in saved.items():
            self.table(name, values.shape[1], values.dtype)
        touched = self.touched()
        for table in self.tables.values():
            table.index_fill_(0, touched, 0)
        for name, values in saved.items():
            self.tables[name].index_copy_(0, members[IDS], values)

    def __getstate__(self) -> dict[str, Any]:
        arguments = {**self.arguments(), "shapes": self.shapes, "dtype": self.dtype}
        # as bytes: tensors made here would be gone before a spawned process could take over their memory
        return {"arguments": arguments, "members": safetensors.torch.save(self.members())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["arguments"])  # type: ignore[misc]
        self.restore(safetensors.torch.load(state["members"]))

    def check_ids(self, ids: Tensor, distinct: bool = False) -> None:
        """Raise BankError naming the value unless `ids` is int64 [n] on the CPU within the bank (and distinct)."""
        if ids.dtype != torch.int64 or ids.dim() != 1 or ids.device.type != "cpu":
            raise BankError(f"ids: must be int64 [n] on the CPU, got {ids.dtype} {list(ids.shape)} on {ids.device}")
        if not len(ids):
            return
        lowest, highest = (int(value) for value in ids.aminmax())
        if lowest < 0 or highest >= self.num_experts:
            wrong = lowest if lowest < 0 else highest
            raise BankError(f"ids: must lie in 0..{self.num_experts - 1}, got {wrong}")
        if distinct:
            ordered = ids.sort().values
            repeats = ordered[1:][ordered[1:] == ordered[:-1]]
            if len(repeats):
                raise BankError(f"ids: must be distinct, {int(repeats[0])} is there more than once")

    def check_rows(self, name: str, rows: Mapping[str, Tensor], count: int) -> None:
        """Raise BankError unless `rows` holds float32 [count, width] on the CPU for exactly the bank's modules."""
        if rows.keys() != self.shapes.keys():
            wrong = sorted(rows.keys() ^ self.shapes.keys())[0]
            raise BankError(f"{name}: module {wrong!r} is {'unknown' if wrong in rows else 'missing'}")
        for module, values in rows.items():
            expected = [count, self.width(module)]
            if list(values.shape) != expected or values.dtype != torch.float32 or values.device.type != "cpu":
                raise BankError(
                    f"{name}[{module!r}]: must be torch.float32 {expected} on the CPU, "
                    f"got {values.dtype} {list(values.shape)} on {values.device}"
                )

    def _check_members(self, members: Mapping[str, Tensor]) -> None:
        for name in (IDS, *self.tables):
            if name not in members:
                raise BankError(f"members: {name!r} is missing, which the bank has")
        ids = members[IDS]
        self.check_ids(ids, distinct=True)
        for name, values in members.items():
            if name != IDS:
                self._check_member(name, values, len(ids))
        if len(ids) and int(members[STEPS].min()) < 1:
            raise BankError(f"members: {STEPS!r} must be at least 1, got {int(members[STEPS].min())}")

    def _check_member(self, name: str, values: Tensor, count: int) -> None:
        known = self.tables.get(name)
        if known is None and name.startswith(ROWS):
            raise BankError(f"members: {name!r} is of a module the bank does not have; it has {list(self.shapes)}")
        width = known.shape[1] if known is not None else values.shape[-1] if values.dim() else 0
        dtypes = [known.dtype] if known is not None else list(DTYPE_NAMES)
        if list(values.shape) != [count, width] or width < 1 or values.dtype not in dtypes:
            expected = f"{[count, width or 'width']} of {' or '.join(map(str, dtypes))}"
            raise BankError(f"members: {name!r} must be {expected}, got {list(values.shape)} of {values.dtype}")

    def _open(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / DESCRIPTION
        if not path.is_file():
            return
        try:
            found = json.loads(path.read_text("utf-8"))
            tables = {name: (int(width), DTYPES[dtype]) for name, (width, dtype) in found["tables"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BankError(f"{path}: does not describe a bank: {error!r}") from error
        for name, value in self.arguments().items():
            if found.get(name) != value:
                raise BankError(f"{path}: {name} is {found.get(name)!r}, asked for {value!r}")
        for name, (width, dtype) in tables.items():
            self.tables[name] = self._mapped(name, width, dtype, reopen=True)

    def arguments(self) -> dict[str, Any]:
        """The settings that decide the bank before any training, as JSON values."""
        return {
            "num_experts": self.num_experts,
            "shapes": {module: list(sizes) for module, sizes in self.shapes.items()},
            "rank": self.rank,
            "dtype": DTYPE_NAMES[self.dtype],
            "seed": self.seed,
            "init_scale": self.init_scale,
        }

    def _describe(self) -> None:
        if self.folder is None:
            return
        tables = {name: [table.shape[1], DTYPE_NAMES[table.dtype]] for name, table in self.tables.items()}
        write_atomically(self.folder / DESCRIPTION, json.dumps({**self.arguments(), "tables": tables}, indent=1))

    def _mapped(self, name: str, width: int, dtype: torch.dtype, reopen: bool = False) -> Tensor:
        size = self.num_experts * width * dtype.itemsize
        if self.folder is None:
            pages = map_memory(name, size)
        else:
            path = self.folder / f"{quote(name, safe='')}.table"
            if reopen and path.is_file() and path.stat().st_size != size:
                raise BankError(f"{path}: has {path.stat().st_size:,} bytes, must have {size:,}")
            pages = map_file(path, size, reopen)
        return torch.frombuffer(pages, dtype=dtype).view(self.num_experts, width)


def _check_size(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BankError(f"{name}: must be a whole number of at least 1, got {value!r}")


def _stream(module: str) -> int:
    """A number for `module` that does not depend on the other modules or their order."""
    return zlib.crc32(module.encode())


def optimizer_tables(bank: Bank) -> dict[str, Tensor]:
    """The tables [N, width] that optimizers keep in a bank, by name."""
    return {name: table for name, table in bank.tables.items() if name != STEPS and not name.startswith(ROWS)}


def with_fresh_optimizers(bank: Bank, members: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`members` for `bank.restore`, completed by zeros for the optimizers' tables that were not saved."""
    count = len(members[IDS]) if IDS in members else 0
    fresh = {name: table.new_zeros(count, table.shape[1]) for name, table in optimizer_tables(bank).items()}
    return {**fresh, **members}
