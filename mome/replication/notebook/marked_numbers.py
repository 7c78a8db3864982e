"""Numbers in the book's prose: a mark behind each says which committed result it is from, and how it is written.

In a page `94.6%<!-- small 02 leak_random_chat .1% -->` is the value of that metric in notebook 02's result at the
profile `small`, written with Python's format `.1%`. Behind the metric may stand `@low` or `@high`, an end of its 95%
interval, or `@n`. Before the format may stand a factor: `x100:.1f` writes a share in percent without the sign, and
`x-100:.1f` a loss of so many points. Readers of a page do not see marks.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from mome.files.environment import repository_root
from mome.replication.notebook.results import Metric, read_result

MARK = re.compile(
    r"(?P<number>[-+]?\d[\d,]*(?:\.\d+)?%?)<!-- (?P<profile>tiny|small) (?P<notebook>\d\d) "
    r"(?P<metric>[^\s@]+)(?:@(?P<part>low|high|n))? (?:x(?P<factor>-?\d+):)?(?P<format>\S+) -->"
)
# what was meant to be a mark and is none would stay as it is for ever
BEGINNING = re.compile(r"<!-- (?:tiny|small) ")


class MarkError(ValueError):
    """A mark that cannot be followed; the message names the page, the line, the mark and what is wrong with it."""


def with_numbers(page: str, path: Path) -> str:
    """The text `page`, which stands in `path`, with the number before each mark as the committed result has it.

    Raises:
        MarkError: a mark is misspelt, or names a metric, an interval or a format that there is not.
    """
    for begun in BEGINNING.finditer(page):
        if not any(found.start("number") < begun.start() < found.end() for found in MARK.finditer(page)):
            wanted = "a number before it, then profile, notebook, metric and format"
            raise MarkError(f"{_place(page, begun, path)}: {page[begun.start() :][:60]!r} needs {wanted}")
    return MARK.sub(lambda found: _number(found, path) + found.group()[len(found["number"]) :], page)


def _number(found: re.Match[str], path: Path) -> str:
    try:
        value = _value(_metrics(found["profile"], found["notebook"])[found["metric"]], found["part"])
        return format(value * int(found["factor"] or 1), found["format"])
    except (KeyError, ValueError) as error:
        raise MarkError(f"{_place(found.string, found, path)}: {found.group()!r}: {error}") from error


def _value(metric: Metric, part: str | None) -> float:
    if part == "n":
        return metric.n
    if part is None:
        return metric.value
    if metric.ci95 is None:
        raise ValueError("the metric has no interval")
    return metric.ci95[part == "high"]


def _metrics(profile: str, number: str) -> dict[str, Metric]:
    paths = sorted((repository_root() / "data" / "results" / profile).glob(f"{number}_*.json"))
    if len(paths) != 1:
        raise ValueError(f"there is no result of notebook {number} at {profile}")
    return _read(paths[0], paths[0].stat().st_mtime_ns)


@cache  # a page asks the same few files a hundred times; a file that is written again has another time
def _read(path: Path, time: int) -> dict[str, Metric]:
    return read_result(path).metrics


def _place(page: str, found: re.Match[str], path: Path) -> str:
    return f"{path}: line {page.count(chr(10), 0, found.start()) + 1}"
