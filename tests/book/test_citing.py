"""Citations: each preprint that a page or a notebook names is in the list of references, and code is left alone."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def citing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "notebooks" / "book")
    return pytest.importorskip("citing")


def test_a_preprint_gets_a_reference_and_code_does_not(citing):
    text = (
        "[GRACE](https://arxiv.org/abs/2211.11031), arXiv 2203.15556.\n```\narXiv 1907.05242\n```\n`arXiv 1907.05242`"
    )
    assert citing.with_citations(text) == text.replace("31)", "31) {cite:p}`hartvigsen2023grace`").replace(
        "15556", "15556 {cite:p}`hoffmann2022training`"
    )


def test_a_preprint_that_is_not_in_the_list_is_an_error(citing):
    with pytest.raises(KeyError, match=r"2999\.99999"):
        citing.with_citations("arXiv 2999.99999")


def test_every_preprint_of_pages_and_notebooks_is_in_the_list(citing):
    texts = [path.read_text("utf-8") for path in (ROOT / "notebooks" / "book").rglob("*.md")]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert sum(citing.with_citations(text) != text for text in texts) >= 3
    assert len(citing.keys()) >= 20
