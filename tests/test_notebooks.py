"""Every notebook keeps the house rules, and runs from its first cell to its result at the smoke size."""

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from mome.replication.notebook.claims import read_claims
from mome.replication.notebook.parameters import default_parameters, left_out, profile_stems, resolve
from mome.replication.notebook.results import PROFILES, read_result
from mome.replication.reproduce.execution import execute
from mome.replication.reproduce.limits import LIMITS
from mome.replication.reproduce.runner import KERNEL

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The one whose cells capture a widget's outputs; the others spare the six CPU seconds of imports.
IN_A_FRESH_KERNEL = ("04_fig3_entropy",)
# They ask for more of the shipped facts than every 40th.
OF_ALL_FACTS = (
    "02_tab1_regularization",
    "05_fig4_architecture",
    "13_sec8_insights_fallacies",
    "17_sec8_blind_benchmarks",
)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def import_name(module: str, name: str) -> object:
    """What `from module import name` gives."""
    holder = import_module(module)
    return getattr(holder, name) if hasattr(holder, name) else import_module(f"{module}.{name}")


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_outputs_are_stripped(path: Path):
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(path))


@every_notebook
def test_the_kernel_is_named_so_that_papermill_finds_it(path: Path):
    kernel = nbformat.read(path, as_version=4).metadata.kernelspec
    assert (kernel.name, kernel.language) == ("python3", "python")


@every_notebook
def test_cells_are_few_and_short(path: Path):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(path)]
    assert 8 <= len(lengths) <= 15
    assert max(lengths) <= 25


@every_notebook
def test_prose_and_code_are_in_balance(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    prose, code = (sum(len(c.source) for c in cells if c.cell_type == kind) for kind in ("markdown", "code"))
    assert 0.5 <= prose / code <= 2


@every_notebook
def test_no_function_is_longer_than_ten_lines(path: Path):
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 10


@every_notebook
def test_every_profile_gives_valid_parameters(path: Path):
    for profile in PROFILES:
        assert resolve(profile, path.stem, {}).keys() == default_parameters(path).keys()


@every_notebook
def test_it_knows_its_own_name(path: Path):
    assert any(f'STEM = "{path.stem}"' in cell.source for cell in code_cells(path))


def imports(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@every_notebook
def test_all_imports_stand_in_the_first_cell_on_six_lines_at_most(path: Path):
    first, *others = [cell.source for cell in code_cells(path)]
    assert len(first.splitlines()) <= 6
    assert len(imports(ast.parse(first))) == len([line for line in first.splitlines() if line])
    assert not [ast.unparse(node) for source in others for node in imports(ast.parse(source))]


@every_notebook
def test_its_lab_offers_what_it_uses_from_where_that_is_defined_and_nothing_else(path: Path):
    """The module `lab` of its folder, whose names it calls as `lab.memorize(...)`."""
    lab = import_module(f"mome.replication.paper.{path.stem.partition('_')[2]}.lab")
    body = ast.parse(Path(lab.__file__).read_text("utf-8")).body
    offered = {name.name: node.module for node in body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert [type(node) for node in body if not isinstance(node, ast.ImportFrom)] == [ast.Expr, ast.Assign]
    homes = {name: getattr(getattr(lab, name), "__module__", home) for name, home in offered.items()}
    assert homes == offered
    code = ast.walk(ast.parse("\n".join(cell.source for cell in code_cells(path))))
    used = {node.attr for node in code if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "lab"}
    assert used == offered.keys() == set(lab.__all__)


@every_notebook
def test_what_it_takes_from_the_package_is_there(path: Path):
    """Also names read through a module, as in `work.lookup_work(...)`, which ruff cannot check."""
    tree = ast.parse("\n".join(cell.source for cell in code_cells(path)))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mome":
            for name in node.names:
                found = import_name(node.module or "", name.name)
                modules |= {name.asname or name.name: found} if isinstance(found, ModuleType) else {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), ast.unparse(node)


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMITS["smoke"].notebook + 300)
@every_notebook
def test_it_runs_at_the_smoke_size(
    path: Path, tmp_path: Path, small_root: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    """From another folder, into a project folder of its own; but for one, in a kernel that has imported the package.

    Every 40th of the shipped facts is enough for most: to read and to draw from all of them takes seconds.
    """
    facts = ROOT if path.stem in OF_ALL_FACTS else small_root
    for name in (
        "notebooks",
        "data/facts",
        "data/text_to_sql",
        "data/backbones",
        "data/results/bench",
        "data/results/small",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to((facts if name == "data/facts" else ROOT) / name)
    (tmp_path / "data" / "claims.csv").symlink_to(ROOT / "data" / "claims.csv")
    parameters = resolve("smoke", path.stem, {})
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    kernel = KERNEL if path.stem in IN_A_FRESH_KERNEL else request.getfixturevalue("warm_kernel")
    execute(path, tmp_path / "out.ipynb", parameters, tmp_path, LIMITS["smoke"], kernel=kernel)
    assert not (tmp_path / "figures").exists() and not (tmp_path / "data" / "results" / "smoke").exists()
    result = read_result(tmp_path / "runs" / "smoke" / "results" / f"{path.stem}.json")
    assert result.metrics
    tested = {claim.id for claim in read_claims(ROOT / "data" / "claims.csv") if path.stem in claim.notebooks}
    assert {claim.id for claim in result.claims} == tested
    assert (tmp_path / "runs" / "smoke" / "figures" / f"{path.stem}.png").stat().st_size > 5_000


def test_the_real_model_has_its_nine_notebooks_and_the_others_are_named() -> None:
    assert [stem[:2] for stem in profile_stems("small")] == ["00", "01", "02", "04", "05", "06", "13", "16", "17"]
    assert [stem[:2] for stem in left_out("small")] == ["03", "07", "08", "09", "10", "11", "12", "14", "15"]
    assert left_out("tiny") == []
