"""The whole book, built once for all tests that read it, and the folder in which what npm brings is kept."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "notebooks" / "book"
KEPT = ROOT / ".cache" / "live"  # as `make book`: a memory is trained once for the same code
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC"  # one pixel
OUTPUTS = {
    "image/png": DOT,
    "text/html": "<table><thead><tr><th>x</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>",
    "text/plain": "a line of text " * 20,
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with the live page where that can be made; notebook 00 with an output of each kind, others without."""
    pytest.importorskip("sphinx_book_theme", reason="Sphinx is not installed: make book")
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "site.lock"):  # the workers of a run build one site together
        if not (shared / "site").is_dir():
            _build(shared)
    return shared / "site"


def _build(folder: Path) -> None:
    _run_notebook(folder / "runs" / "tiny" / "00_start_here.ipynb")
    live, source, new = (str(folder / name) for name in ("live", "source", "new"))
    home = {**os.environ, "MOME_HOME": str(folder / "runs")}
    if find_spec("onnxruntime") is not None:
        path = os.pathsep.join(filter(None, (str(BOOK), os.environ.get("PYTHONPATH"))))
        _run([sys.executable, "-m", "live", live], {**home, "PYTHONPATH": path})
    _run([sys.executable, str(BOOK / "assemble.py"), source, live], home)
    warned = _run([sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(BOOK), source, new], home)
    assert warned == ""
    Path(new).rename(folder / "site")


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run a step of `make book`; what it says on the standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _run_notebook(path: Path) -> None:
    """As if a run had left the notebook, with made-up outputs of its code cells."""
    notebook = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, (cell, (kind, content)) in enumerate(zip(cells, OUTPUTS.items(), strict=False), start=1):
        cell.execution_count = number
        cell.outputs = [nbformat.v4.new_output("execute_result", {kind: content}, execution_count=number)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def axe(monkeypatch: pytest.MonkeyPatch) -> str:
    """The script of axe-core, taken by npm; the test is skipped where that cannot be done."""
    monkeypatch.syspath_prepend(BOOK)
    from live.npm import AXE, NotTaken, take

    try:
        (path,) = take(AXE, KEPT)
    except NotTaken as why:
        pytest.skip(str(why))
    return path.read_text("utf-8")


@pytest.fixture
def live_site(site: Path) -> Path:
    """The site, if it has the live page."""
    if not (site / "live" / "ask.js").is_file():
        missing = site / "live" / "missing.txt"
        pytest.skip(missing.read_text("utf-8").strip() if missing.is_file() else "onnxruntime is missing: make book")
    return site
