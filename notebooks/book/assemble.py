"""Puts the pages of the book together for Sphinx: `python notebooks/book/assemble.py FOLDER LIVE`.

LIVE is the folder in which `python -m live` left the page that runs a model; a site without it says why.

README becomes the front page. The pages of this folder keep their names; a mark in one, such as `<!-- run-sheet -->`,
becomes a table from the committed results, and a number with a mark behind it the committed value. A notebook stands
there as `mome reproduce` left it, or without outputs, and says which.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from inspect import isclass
from pathlib import Path
from string import Template
from typing import Any

import nbformat
from citing import with_citations

import mome
from mome.files.environment import current_environment, repository_root, work_folder
from mome.replication.bench.goals import cpu
from mome.replication.bench.tables import results_folder
from mome.replication.ledger.table import committed_result_paths
from mome.replication.ledger.verdicts import judge_all
from mome.replication.notebook.claims import read_claims
from mome.replication.notebook.marked_numbers import with_numbers
from mome.replication.notebook.results import read_result
from mome.replication.reproduce.reports.run_sheet import read_sheet

COPIED = (
    "data/results",
    "data/claims.csv",
    "data/findings.csv",
    "figures",
    "LICENSE",
    "CITATION.cff",
    "notebooks/book/references.bib",
)
DOCUMENTS = ("LOG.md", "CONTRIBUTING.md", "CHANGELOG.md")
PROFILES = ("tiny", "small")  # whose executed notebooks are looked for, the first that is there
NOT_RUN = "*Without outputs: not run here. `make reproduce` runs it, and `make book` then shows what came out.*"
OUTDATED = "*The outputs are those of an earlier version of the code cells. `make reproduce` runs them anew.*"
HOW_TO = (
    "notebooks/book/ask_in_the_browser",
    "notebooks/book/your_facts",
    "notebooks/book/lesson",
    "notebooks/book/peft",
    "notebooks/book/editing",
    "notebooks/book/batch",
    "notebooks/book/many_ranks",
)
EVIDENCE = (
    "notebooks/book/findings",
    "notebooks/book/claims",
    "notebooks/book/not_replicated",
    "notebooks/book/departures",
    "notebooks/book/retrieval",
    "notebooks/book/speed",
    "notebooks/book/figures",
)
REFERENCE = (
    "notebooks/book/notebooks",
    "notebooks/book/glossary",
    "notebooks/book/related",
    "notebooks/book/references",
    "notebooks/book/api",
    "notebooks/book/files",
)
LIVE = ("<!-- live:begin -->", "<!-- live:end -->")  # between them stands the form of the live page
REPLICATED = ("reproduced", "true by construction")


def assemble(source: Path, live: Path) -> Path:
    """Write all pages below `source`, which is emptied first; returns it. `live` holds the files of the live page."""
    root = repository_root()
    shutil.rmtree(source, ignore_errors=True)
    _copy(live, source / "extra" / "live")
    for name in (*COPIED, *DOCUMENTS):
        _copy(root / name, source / name)
    for page in sorted((root / "notebooks" / "book").rglob("*.md")):
        text = with_form(with_numbers(page.read_text("utf-8"), page), live)
        _write(source / page.relative_to(root), _filled(with_citations(text)))
    stems = sorted(path.stem for path in (root / "notebooks").glob("*.ipynb"))
    for stem in stems:
        _write(source / "notebooks" / f"{stem}.ipynb", nbformat.writes(shown(stem)))
    front = (root / "README.md").read_text("utf-8")
    _write(source / "index.md", f"{front}\n{contents([f'notebooks/{stem}' for stem in stems])}")
    return source


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target)
    elif path.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("](../../README.md", "](../../index.md"), "utf-8")


def contents(notebooks: Sequence[str]) -> str:
    """The tables of contents of the front page, one for each part, shown at the side."""
    contributors = [Path(name).stem for name in DOCUMENTS]
    parts = {
        "How to": HOW_TO,
        "Results": EVIDENCE,
        "Notebooks": notebooks,
        "Reference": REFERENCE,
        "For contributors": contributors,
    }
    blocks = []
    for caption, pages in parts.items():
        found = [page for page in pages if page in notebooks or _page(page).is_file()]
        blocks.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *found, "```", ""]))
    return "\n".join(blocks)


def _page(name: str) -> Path:
    return repository_root() / f"{name}.md"


def with_form(text: str, live: Path) -> str:
    """The page with the form of the live page between its marks, or a note that says why the page cannot run."""
    before, marked, rest = text.partition(LIVE[0])
    if not marked:
        return text
    told = live / "missing.txt"
    why = told.read_text("utf-8").strip() if told.is_file() else "its files were not made."
    form = f":::{{warning}}\nThe model is not part of this copy of the book: {why}\n:::"
    if (live / "memory.json").is_file():
        measured = json.loads((live / "memory.json").read_text("utf-8"))["measured"]
        page = Template((Path(__file__).parent / "live" / "ask.html").read_text("utf-8"))
        form = f"```{{raw}} html\n{page.substitute({name: f'{count:,}' for name, count in measured.items()})}```"
    return before + form + rest.partition(LIVE[1])[2]


# --- notebooks -----------------------------------------------------------------------------------------------------


def shown(stem: str) -> Any:
    """The notebook (nbformat) as the book shows it: executed where a run left it, with a line that says which it is."""
    stripped = nbformat.read(repository_root() / "notebooks" / f"{stem}.ipynb", as_version=4)
    runs = [(profile, work_folder() / profile / f"{stem}.ipynb") for profile in PROFILES]
    profile, path = next(((name, path) for name, path in runs if path.is_file()), ("", None))
    if path is None:
        return _with_note(stripped, NOT_RUN, stem)
    executed = nbformat.read(path, as_version=4)
    note = f"*Run at the profile `{profile}`.*" if _code(executed) == _code(stripped) else OUTDATED
    return _with_note(_said_once(executed), note, stem)


def _said_once(notebook: Any) -> Any:
    """The notebook without the parameters of its run, where they are those that stand in it anyway."""
    given = {cell.source.strip() for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])}
    notebook.cells = [cell for cell in notebook.cells if not (_injected(cell) and _lines(cell) in given)]
    return notebook


def _injected(cell: Any) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _lines(cell: Any) -> str:
    """The code of papermill's cell without the comment above it."""
    return str(cell.source).removeprefix("# Parameters\n").strip()


def _code(notebook: Any) -> list[str]:
    """The code cells, without the one in which papermill put the parameters of a run."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.source for cell in cells if not _injected(cell)]


def _with_note(notebook: Any, note: str, stem: str) -> Any:
    title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(note, id="book-note"))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_citations(cell.source)
        cell.metadata["mystnb"] = {"image": {"alt": f"Figure of notebook {stem[:2]}. {title}"}}
    notebook.metadata.pop("widgets", None)
    return notebook


# --- tables from the committed results -----------------------------------------------------------------------------


def _filled(text: str) -> str:
    for mark, table in TABLES.items():
        if mark in text:
            text = text.replace(mark, table())
    return text


def not_replicated() -> str:
    """Each claim that is not reproduced: what the paper says, what was measured, and why the verdict is what it is."""
    judged = judge_all(read_result(path) for path in committed_result_paths())
    parts = []
    for verdict in ("contradicted", "mixed", "not testable here"):
        found = [claim for claim in read_claims() if judged[claim.id].verdict == verdict]
        parts.append(f"## {verdict.capitalize()}: {len(found)} of {len(judged)} claims")
        for claim in found:
            ours = judged[claim.id]
            told = f"*The paper* ({claim.where}): {claim.paper_value}. *Measured*: {ours.measured}. *Why*: {ours.why}."
            parts += [f"### {claim.id}: {claim.claim}", told.replace("$", "\\$")]
    return "\n\n".join(parts)


def run_sheet() -> str:
    """How long each notebook took, how much memory, and what it needs, by the committed run sheet."""
    lines = ["| notebook | profile | seeds | seconds | memory, GiB | needs | where |", "|---|---|---|---|---|---|---|"]
    for row in read_sheet():
        link = f"[{row.notebook}](../{row.notebook}.ipynb)"
        numbers = f"{row.seeds} | {row.seconds:,.0f} | {row.memory_gib:.1f}"
        where = f"{row.jobs} at a time on {row.cores} cores of {row.cpu}, commit {row.commit[:7]}"
        lines.append(f"| {link} | {row.profile} | {numbers} | {row.needs()} | {where} |")
    return "\n".join(lines)


def cpu_summary() -> str:
    """The goals on two CPU cores and what was measured, from the committed tables of benchmarks."""
    lines = ["| what | must | aim | measured | met | at commit |", "|---|---|---|---|---|---|"]
    for row in cpu.summary_rows(results_folder()):
        cells = (*(row[name] for name in ("what", "must", "aim", "measured", "met")), row["measured_at"][:7])
        lines.append("| " + " | ".join(cells).replace("<=", "≤") + " |")
    return "\n".join(lines)


def departures() -> str:
    """The pages of single departures, which stand under the page of all of them at the side."""
    pages = sorted((Path(__file__).parent / "departures").glob("*.md"))
    return "\n".join(["```{toctree}", ":hidden:", "", *(f"departures/{path.stem}" for path in pages), "```"])


def figures() -> str:
    """Every committed figure, with its notebook and the files that hold its numbers."""
    parts = []
    for path in committed_result_paths():
        result = read_result(path)
        folder = "figures/" if result.profile == "tiny" else f"figures/{result.profile}/"
        if not (repository_root() / folder / f"{path.stem}.png").is_file():
            continue
        names = ", ".join(map(str, result.config["backbones"]))
        data = [path, *sorted(path.parent.glob(f"{path.stem}*.csv"))]
        links = ", ".join(f"[{each.name}](../../data/results/{result.profile}/{each.name})" for each in data)
        parts.append(f"## {path.stem}, {names}\n\n![{_title(path.stem)} ({names})](../../{folder}{path.stem}.png)\n")
        parts.append(f"[The notebook](../{path.stem}.ipynb). Data: {links}.")
    return "\n\n".join(parts)


def _title(stem: str) -> str:
    notebook = nbformat.read(repository_root() / "notebooks" / f"{stem}.ipynb", as_version=4)
    return str(notebook.cells[0].source.partition("\n")[0].lstrip("# "))


def api() -> str:
    """Directives that make the reference of the public names and of the kernels from their docstrings."""
    kinds = {name: "autoclass" if isclass(getattr(mome, name)) else "autofunction" for name in mome.__all__}
    directives = [f".. {kind}:: mome.{name}" + "\n   :members:" * (kind == "autoclass") for name, kind in kinds.items()]
    parts = ["## mome", *(f"```{{eval-rst}}\n{each}\n```" for each in directives)]
    for path in sorted((repository_root() / "kernels" / "mome_kernels").glob("*/__init__.py")):
        name = f"mome.kernels.{path.parent.name}"
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```")
    return "\n\n".join([*parts, "## Lists\n\n{ref}`All names <genindex>`, {ref}`all modules <modindex>`."])


TABLES: dict[str, Callable[[], str]] = {
    "<!-- not-replicated -->": not_replicated,
    "<!-- run-sheet -->": run_sheet,
    "<!-- cpu-summary -->": cpu_summary,
    "<!-- departures -->": departures,
    "<!-- figures -->": figures,
    "<!-- api -->": api,
}


def built_from() -> str:
    """The line at the foot of each page: commit and machine."""
    here = current_environment()
    changed = " with changes that are not committed" if here.dirty else ""
    machine = re.sub("[<>&]", "", here.hardware.cpu)
    return f"Built from commit {here.commit[:7]}{changed} on {here.hardware.cores} cores of {machine}."


if __name__ == "__main__":
    print(assemble(*(Path(argument).resolve() for argument in sys.argv[1:3])))
