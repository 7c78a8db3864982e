"""The pages that `make book` puts together: front page, notebooks with and without outputs, tables from the results."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from mome.replication.notebook.claims import read_claims

ROOT = Path(__file__).parents[2]


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`notebooks/book/assemble.py`, which is a script and in no package."""
    monkeypatch.syspath_prepend(ROOT / "notebooks" / "book")
    spec = importlib.util.spec_from_file_location("assemble", ROOT / "notebooks" / "book" / "assemble.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project: README, two pages, two notebooks of one code cell each; nothing was run yet."""
    monkeypatch.setenv("MOME_ROOT", str(tmp_path / "project"))
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "runs"))
    root = tmp_path / "project"
    for name in ("notebooks/book", "data", "figures"):
        (root / name).mkdir(parents=True)
    (root / "README.md").write_text("# Front\n\n[Words](notebooks/book/glossary.md)\n", "utf-8")
    (root / "notebooks" / "book" / "glossary.md").write_text(
        "# Glossary\n\nBack to [the front](../../README.md).\n", "utf-8"
    )
    (root / "notebooks" / "book" / "not_replicated.md").write_text("# Not\n\n<!-- not-replicated -->\n", "utf-8")
    shutil.copy(ROOT / "data" / "claims.csv", root / "data" / "claims.csv")
    for stem in ("00_a", "01_b"):
        nbformat.write(notebook(), root / "notebooks" / f"{stem}.ipynb")
    return root


def notebook(code: str = "1 + 1", outputs: bool = False) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(code, id="a")
    if outputs:
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)]
    title = nbformat.v4.new_markdown_cell("# A question?\n\nText.", id="b")
    return nbformat.v4.new_notebook(cells=[title, cell])


def run(root: Path, stem: str, code: str = "1 + 1", profile: str = "tiny") -> None:
    path = root.parent / "runs" / profile / f"{stem}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    executed = notebook(code, outputs=True)
    executed.cells.insert(
        1, nbformat.v4.new_code_cell("seeds = [0]", id="c", metadata={"tags": ["injected-parameters"]})
    )
    nbformat.write(executed, path)


def test_the_front_page_is_readme_and_leads_to_every_page(book: ModuleType, root: Path, tmp_path: Path):
    source = book.assemble(tmp_path / "source", tmp_path / "live")
    front = (source / "index.md").read_text("utf-8")
    assert front.startswith("# Front\n")
    listed = {line for block in re.findall(r"```{toctree}\n(.*?)```", front, re.DOTALL) for line in block.splitlines()}
    pages = {path.relative_to(source).with_suffix("").as_posix() for path in source.rglob("*.md")} - {"index"}
    assert pages | {"notebooks/00_a", "notebooks/01_b"} <= listed
    assert "[the front](../../index.md)" in (source / "notebooks" / "book" / "glossary.md").read_text("utf-8")


def test_the_live_page_has_its_form_and_files_or_says_why_not(book: ModuleType, root: Path, tmp_path: Path):
    page, live = root / "notebooks" / "book" / "ask_in_the_browser.md", tmp_path / "live"
    page.write_text("# Ask\n\n<!-- live:begin -->\nText alone.\n<!-- live:end -->\n", "utf-8")

    def assembled() -> str:
        source = book.assemble(tmp_path / "source", live)
        return (source / "notebooks" / "book" / page.name).read_text("utf-8")

    assert "its files were not made" in assembled() and "Text alone" not in assembled()
    live.mkdir()
    (live / "missing.txt").write_text("npm is not installed here.\n", "utf-8")
    assert "copy of the book: npm is not installed here.\n" in assembled()
    (live / "missing.txt").unlink()
    measured = {"facts": 100, "recalled": 99, "held_out": 85, "unrelated": 1000, "taken": 3}
    (live / "memory.json").write_text(json.dumps({"measured": measured}), "utf-8")
    text = assembled()
    assert '<form id="ask-form">' in text and "85 of 100 in a wording" in text and "3 of 1,000 questions" in text
    assert (tmp_path / "source" / "extra" / "live" / "memory.json").is_file()


def test_every_page_of_the_project_s_book_is_in_a_table_of_contents(book: ModuleType):
    listed = {*book.HOW_TO, *book.EVIDENCE, *book.REFERENCE}
    listed |= {f"notebooks/book/{line}" for line in book.departures().splitlines() if line.startswith("departures/")}
    pages = (ROOT / "notebooks" / "book").rglob("*.md")
    assert listed == {path.relative_to(ROOT).with_suffix("").as_posix() for path in pages}


def test_a_notebook_that_was_not_run_says_so(book: ModuleType, root: Path):
    shown = book.shown("00_a")
    assert shown.cells[1].source == book.NOT_RUN and not shown.cells[2].outputs


@pytest.mark.parametrize("profile", ["tiny", "small"])
def test_a_notebook_that_was_run_has_its_outputs_and_says_at_which_profile(profile: str, book: ModuleType, root: Path):
    run(root, "01_b", profile=profile)
    shown = book.shown("01_b")
    assert shown.cells[1].source == f"*Run at the profile `{profile}`.*"
    assert shown.cells[-1].outputs[0].data["text/plain"] == "2"
    assert shown.cells[-1].metadata.mystnb.image.alt == "Figure of notebook 01. A question?"


def test_outputs_of_earlier_code_are_called_so(book: ModuleType, root: Path):
    run(root, "01_b", code="1 + 2")
    assert book.shown("01_b").cells[1].source == book.OUTDATED


@pytest.mark.parametrize("seeds", ["[0]", "[0, 1]"])
def test_parameters_of_a_run_are_shown_only_where_they_are_others(seeds: str, book: ModuleType, root: Path):
    path = root.parent / "runs" / "tiny" / "01_b.ipynb"
    run(root, "01_b")
    executed = nbformat.read(path, as_version=4)
    executed.cells[1].source = f"# Parameters\nseeds = {seeds}\n"
    own = nbformat.v4.new_code_cell("seeds = [0]", id="d", metadata={"tags": ["parameters"]})
    executed.cells.insert(1, own)
    nbformat.write(executed, path)
    sources = [cell.source for cell in book.shown("01_b").cells if "seeds" in cell.source]
    assert sources == ["seeds = [0]"] + ([] if seeds == "[0]" else [f"# Parameters\nseeds = {seeds}\n"])


def test_what_did_not_replicate_is_made_from_claims_and_results(book: ModuleType, root: Path, monkeypatch):
    bare = book.not_replicated()  # no results: nothing could be tested
    assert f"## Not testable here: {len(read_claims())} of {len(read_claims())} claims" in bare
    monkeypatch.setenv("MOME_ROOT", str(ROOT))
    real = book.not_replicated()
    assert "### C03: " in real and "### C01: " not in real  # table 1 is contradicted, figure 1 is reproduced
    assert real.index("## Contradicted") < real.index("### C03: ") < real.index("## Mixed")


def test_the_run_sheet_has_a_row_for_each_notebook_at_tiny(book: ModuleType):
    rows = book.run_sheet().splitlines()[2:]
    tiny = [row.split("]")[0].removeprefix("| [") for row in rows if "| tiny |" in row]
    assert tiny == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
