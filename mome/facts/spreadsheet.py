"""Tables as spreadsheets export them: their separator, their columns, and rows without content.

The header decides all of this, and only if it leaves no doubt; else the file is refused with line, value and cause.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mome.facts.strict import FactError, parse_rows, read_text

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Excel's own first line, which names the separator and is no row; some programs make it as wide as the others
HINT = re.compile(r'"?sep=([,;\t|])"?\1*(?:\r\n|\r|\n)', flags=re.IGNORECASE)

Row = tuple[int, list[str]]


def read_table(
    path: str | Path, needed: Sequence[str], normal: Callable[[str], str] = str
) -> tuple[int, list[str], list[Row]]:
    """Read a CSV file as a spreadsheet exports it.

    The separator is a comma, semicolon, tab or bar: the one by which the header names `needed`, or which a first line
    such as `sep=;` states. Columns without a name are dropped where all their cells are empty, and so are empty rows at
    the end; an empty row before others is refused.

    Args:
        path: UTF-8, or UTF-16 or 32 with a byte order mark.
        needed: names that the header must hold.
        normal: gives the form in which names are compared.

    Returns:
        The line of the header, its names as they are, and the rows as (line, cells), each with a cell for each name.

    Raises:
        FactError: the file is not exactly such a table.
        OSError: the file cannot be read.
    """
    text = read_text(path)
    hint = HINT.match(text)
    separator = hint[1] if hint else _separator(text, needed, normal)
    first_line = 2 if hint else 1
    rows = list(parse_rows(text[hint.end() :] if hint else text, path, separator, first_line))
    while rows and _empty(rows[-1][1]):
        rows.pop()
    for line, cells in rows:
        if _empty(cells):
            raise FactError(path, line, "record", separator.join(cells), "blank line (an empty row): delete it")
    if not rows:
        return first_line, [], []
    (first, header), *others = rows
    names = [name.strip() for name in header]
    _refuse_twice(path, first, names, normal)
    return first, [name for name in names if name], [_fitted(path, row, names, separator) for row in others]


def _separator(text: str, needed: Sequence[str], normal: Callable[[str], str]) -> str:
    """The separator by which the header names what is needed; else the one that cuts it into most cells."""
    headers = {separator: _first_cells(text, separator) for separator in SEPARATORS}
    for separator, cells in headers.items():
        if set(needed) <= {normal(cell) for cell in cells}:
            return separator
    return max(headers, key=lambda separator: len(headers[separator]))


def _first_cells(text: str, separator: str) -> list[str]:
    try:
        return next((cells for _, cells in parse_rows(text, "", separator)), [])
    except FactError:  # another separator may read it
        return []


def _empty(cells: Sequence[str]) -> bool:
    return not any(cell.strip() for cell in cells)


def _refuse_twice(path: str | Path, line: int, names: Sequence[str], normal: Callable[[str], str]) -> None:
    seen: set[str] = set()
    for name in filter(None, names):
        if normal(name) in seen:
            raise FactError(path, line, name, name, "this column name occurs twice in the header")
        seen.add(normal(name))


def _fitted(path: str | Path, row: Row, names: Sequence[str], separator: str) -> Row:
    """The row with a cell for each name, what is empty beside them dropped."""
    line, cells = row
    if len(cells) < len(names) or not _empty(cells[len(names) :]):
        problem = f"{len(cells)} cells, but the header has {len(names)}{_count_cause(cells, len(names), separator)}"
        raise FactError(path, line, "record", cells, problem)
    for number, (name, cell) in enumerate(zip(names, cells, strict=False), start=1):
        if not name and cell.strip():
            raise FactError(path, line, f"column {number}", cell, "the header gives this column no name")
    return line, [cell for name, cell in zip(names, cells, strict=False) if name]


def _count_cause(cells: Sequence[str], expected: int, separator: str) -> str:
    if len(cells) > expected:
        return f"; a cell that holds a {SEPARATORS[separator]} must stand in quotation marks"
    other = [name for mark, name in SEPARATORS.items() if mark != separator and mark in cells[0]]
    if len(cells) == 1 and other:
        return f"; the header is separated by {SEPARATORS[separator]}s, this row seems to be by {other[0]}s"
    return ""
