"""Tables of long measurements, kept as CSV: a row appears when it is measured, and a run goes on where one stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import torch

from mome.files.atomic import write_atomically
from mome.files.environment import current_environment
from mome.files.locking import lock_path, locked_file

WAIT_SECONDS = 60.0  # for another process that adds a row, which takes milliseconds


def keep_rows(
    path: Path, rows: Sequence[Mapping[str, Any]], key: Sequence[str], *, texts: Sequence[str] = (), digits: int = 10
) -> None:
    """Add `rows` to the table at `path`, each in place of an earlier one with the same values in the columns `key`.

    The columns `texts` are read back as text, whatever they look like. Numbers are written with `digits` significant
    digits. The file appears whole or not at all; processes that add rows at the same time wait for one another.

    Raises:
        BusyError: another process holds the table for a minute.
        OSError: the file cannot be read or written.
    """
    new = pandas.DataFrame([dict(row) for row in rows])
    busy = f"{path}: another process has been writing this table for {WAIT_SECONDS:.0f} s; see what it does"
    with locked_file(lock_path(path), busy, WAIT_SECONDS):
        earlier = [pandas.read_csv(path, dtype=dict.fromkeys(texts, str))] if path.exists() else []
        table = pandas.concat([*earlier, new]).drop_duplicates(key, keep="last").sort_values(list(key), kind="stable")
        write_atomically(path, table.to_csv(index=False, float_format=f"%.{digits}g"))


def rows_of(path: Path | None, columns: Sequence[str]) -> set[tuple[Any, ...]]:
    """The values that the rows of the table at `path` have in `columns`; none if there is no file. Empty texts stay.

    Raises:
        OSError: the file cannot be read.
    """
    if path is None or not path.exists():
        return set()
    table = pandas.read_csv(path, usecols=list(columns), keep_default_na=False)
    return set(table[list(columns)].itertuples(index=False, name=None))


def machine_columns() -> dict[str, Any]:
    """Columns that say where a row was measured: cpu, threads, accelerator ("none"), torch, commit.

    The commit ends in "(changed)" if files differ from it.
    """
    found = current_environment()
    machine = found.hardware
    commit = found.commit + (" (changed)" if found.dirty else "")
    places = {"cpu": machine.cpu, "threads": torch.get_num_threads(), "accelerator": machine.accelerator}
    return places | {"torch": found.torch, "commit": commit}
