"""Tables of long measurements, kept as CSV: a row appears when it is measured, and a run goes on where one stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import torch

from mome.files.atomic import write_atomically
from mome.files.environment import current_environment


def keep_rows(
    path: Path, rows: Sequence[Mapping[str, Any]], key: Sequence[str], *, texts: Sequence[str] = (), digits: int = 10
) -> None:
    """Add `rows` to the table at `path`, each in place of an earlier one with the same values in the columns `key`.

    The columns `texts` are read back as text, whatever they look like. Numbers are written with `digits` significant
    digits. The file appears whole or not at all.

    Raises:
        OSError: the file cannot be read or written.
    """
    new = pandas.DataFrame([dict(row) for row in rows])
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
    """Columns that say where a row was measured: cpu, threads, torch, commit ("(changed)" if files differ from it)."""
    found = current_environment()
    commit = found.commit + (" (changed)" if found.dirty else "")
    return {"cpu": found.hardware.cpu, "threads": torch.get_num_threads(), "torch": found.torch, "commit": commit}
