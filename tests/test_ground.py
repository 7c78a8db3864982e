"""The ground the project stands on: its top level, its pinned packages, its imports."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

TOP_LEVEL = {
    *("README.md", "environment.yml", "notebooks", "mome", "kernels", "figures", "data", "tests"),
    *("pyproject.toml", "requirements.lock", "Makefile", "LICENSE", "LOG.md", "CONTRIBUTING.md"),
    *("CHANGELOG.md", "CITATION.cff"),
}

# steps of imports inside a room, which a reader goes through; the rooms themselves are eight, one above the other
LONGEST_IN_A_ROOM = 6

TARGETS = {
    "collect",
    *("help", "setup", "reproduce", "test", "coverage", "check"),
    *("notebooks", "book", "bench", "bench-gpu", "faults", "lock", "clean"),
}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def direct_requirements() -> dict[str, Requirement]:
    """What pyproject.toml asks for and the lock has to answer."""
    extras = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *extras["test"], *extras["check"]]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pins(lines: Iterator[str] | list[str]) -> dict[str, str]:
    """Package -> version; what follows a semicolon says on which platform."""
    return {canonicalize_name(name): pin.partition(";")[0] for name, _, pin in (line.partition("==") for line in lines)}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


def conda_pins() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (through_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    return pins([line for line in through_pip if not line.startswith("--")])


# --- the top level -------------------------------------------------------------------------------------------------


def listed(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_top_level_holds_exactly_the_agreed_names():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: nothing tells generated files from the project's own")
    listing = listed(command).splitlines()
    names = {path.split("/")[0] for path in listing if (ROOT / path).exists()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


def test_make_help_lists_every_target():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    assert set(re.findall(r"^  ([\w-]+) ", listed(["make", "help"]), flags=re.MULTILINE)) == TARGETS


# --- the packages --------------------------------------------------------------------------------------------------


def test_every_line_of_the_lock_is_an_exact_version():
    assert len(locked()) > len(direct_requirements())
    loose = {name: pin for name, pin in locked().items() if not re.fullmatch(r"[0-9][0-9a-z.]*", pin)}
    assert not loose


def test_the_lock_leaves_the_torch_build_open():
    """torch alone: no local label such as +cpu, and none of the packages that only its CUDA build needs."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", locked()["torch"])
    assert not [name for name in locked() if name.startswith(("nvidia", "cuda"))]


def test_the_lock_answers_pyproject():
    unanswered = {
        name: str(requirement)
        for name, requirement in direct_requirements().items()
        if not requirement.specifier.contains(locked().get(name, "0"))
    }
    assert not unanswered


def test_the_book_s_own_lock_answers_its_extra_and_moves_nothing():
    lines = (ROOT / "notebooks" / "book" / "requirements.lock").read_text(encoding="utf-8").splitlines()
    own = pins([line for line in lines if not line.startswith("#")])
    wanted = [Requirement(line) for line in project()["optional-dependencies"]["book"]]
    assert all(each.specifier.contains(own.get(canonicalize_name(each.name), "0")) for each in wanted)
    assert not own.keys() & locked().keys()


def test_conda_users_get_the_locked_versions():
    assert conda_pins() == {name: locked()[name] for name in direct_requirements()}


def test_the_lock_is_what_this_environment_runs():
    """A quiet drift between the installed packages and the lock would make results nobody else can repeat."""
    if Path(sys.prefix).resolve() != ROOT / ".venv":
        pytest.skip("these tests do not run in the environment that make set up")
    assert {name: version(name).split("+")[0] for name in direct_requirements()} == conda_pins()


# --- the imports ---------------------------------------------------------------------------------------------------


def sources() -> dict[str, Path]:
    """Every module of the package by its import name, e.g. ``mome.kernels.gather.triton``."""
    found = {}
    for package, folder in (("mome", ROOT / "mome"), ("mome.kernels", ROOT / "kernels" / "mome_kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The module as it runs: what stands under `if TYPE_CHECKING:` is for type checkers alone."""
    kept = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(kept, tree.type_ignores)


def imported_names(module: str, path: Path, *, checked_only: bool = True) -> Iterator[str]:
    """Absolute names of everything a module imports, at its top or inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree if checked_only else without_type_checking(tree)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            start = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (start, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def import_graph() -> dict[str, set[str]]:
    """For each module, the modules of this project that it imports when it runs: not those for type checkers alone."""
    modules = sources()
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = imported_names(module, path, checked_only=False)
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        graph[module] = {target for target in targets if target in modules and target != module}
    return graph


def test_the_package_itself_imports_none_of_its_rooms():
    """``import mome`` stays instant, and a room may import the package without a circle."""
    assert import_graph()["mome"] == set()


def room(module: str) -> str:
    """`adapter` of `mome.adapter.saving.card`; in the replication the second name counts too: `replication.bench`."""
    parts = module.split(".")[1:3]
    return ".".join(parts if parts[:1] == ["replication"] else parts[:1])


def test_the_kernels_import_nothing_of_the_package():
    inside = "mome.kernels"
    found = [(one, other) for one, others in import_graph().items() if one.startswith(inside) for other in others]
    assert not [(one, other) for one, other in found if not other.startswith(inside)]


def test_kernels_are_used_by_the_model_its_training_and_the_replication_alone():
    """Here and not in pyproject.toml: import-linter cannot see a package that lies outside `mome/`."""
    users = {
        one.split(".")[1] for one, others in import_graph().items() if any("mome.kernels" in name for name in others)
    }
    assert users <= {"adapter", "train", "replication", "kernels"}


def test_imports_make_no_circle_and_no_long_chain_in_a_room():
    graph = import_graph()
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")
    chains: dict[str, list[str]] = {}
    for module in order:
        inside = [chains[target] for target in graph[module] if room(target) == room(module)]
        chains[module] = [module, *max(inside, key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) - 1 <= LONGEST_IN_A_ROOM, f"{len(longest) - 1} steps: {' -> '.join(longest)}"


def test_every_library_in_use_is_declared():
    distributions = packages_distributions()
    known = sys.stdlib_module_names | {"mome", "faiss", "lm_eval"}  # the extras `bench` and `lm-eval`
    used = {name.split(".")[0] for module, path in sources().items() for name in imported_names(module, path)} - known
    undeclared = {
        name
        for name in used
        if not {canonicalize_name(provider) for provider in distributions.get(name, [])} & direct_requirements().keys()
    }
    assert not undeclared


# --- the kernels folder --------------------------------------------------------------------------------------------


def test_the_kernels_folder_is_no_package():
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_peft_and_transformers_import_from_the_repository_root():
    """They look for a package called ``kernels``, and from here they would find a folder of that name."""
    code = "import peft, mome.kernels; from transformers import LlamaForCausalLM; print(LlamaForCausalLM.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["LlamaForCausalLM"]
