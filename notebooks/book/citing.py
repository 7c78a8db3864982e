"""Citations in the book: where a page names a preprint by its arXiv number, a reference to the list of references."""

import re
from functools import cache
from pathlib import Path

FENCED = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)  # code is shown as it stands
PREPRINT = re.compile(r"\]\(https://arxiv\.org/abs/(?P<link>\d{4}\.\d{5})\)|arXiv:? ?(?P<number>\d{4}\.\d{5})")
ENTRY = re.compile(r"@\w+\{(?P<key>[^,]+),.*?\beprint = \{(?P<number>[\d.]+)\}", re.DOTALL)


@cache
def keys() -> dict[str, str]:
    """The key of each entry of `references.bib` by its arXiv number."""
    text = (Path(__file__).parent / "references.bib").read_text("utf-8")
    return {found["number"]: found["key"] for found in ENTRY.finditer(text)}


def with_citations(text: str) -> str:
    """A page with a reference behind each preprint outside code. Raises KeyError for one that is not in the list."""
    parts = FENCED.split(text)
    return "".join(part if place % 2 else PREPRINT.sub(_cited, part) for place, part in enumerate(parts))


def _cited(found: re.Match[str]) -> str:
    return f"{found.group()} {{cite:p}}`{keys()[found['link'] or found['number']]}`"
