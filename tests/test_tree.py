"""The folders can be read: few names in each, short files, and each test where its module is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import file_tree
import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"adapter", "cli", "facts", "files", "lm", "memory", "replication", "train"}
MOST_MODULES = 12
MOST_LINES = 300

# Tests of a topic: which module they exercise. All others are named as their module is.
TOPICS = {
    "adapter/saving/test_card_code": "adapter/saving/card",
    "adapter/saving/test_one_act": "adapter/saving/replacing",
    "adapter/test_bank_storage": "adapter/bank",
    "adapter/test_copies": "adapter/model",
    "adapter/test_generation": "adapter/model",
    "adapter/test_routing": "adapter/model",
    "files/test_checkpoints_damage": "files/checkpoints",
    "memory/editing/test_damage": "memory/editing/saving",
    "memory/editing/test_refusals": "memory/editing/editor",
    "memory/test_families": "memory/memorize",
    "memory/test_memorize_refusals": "memory/memorize",
    "memory/test_old_adapters": "memory/loading",
    "memory/test_names": "memory/memorize",
    "memory/test_prompt_forms": "memory/memorize",
    "memory/test_threads": "memory/memory",
    "replication/faults/test_loops": "replication/faults/command",
    "replication/methods/test_methods": "replication/methods",
    "replication/paper/test_figure_texts": "replication/paper",
    "replication/paper/text_to_sql/test_execution_attacks": "replication/paper/text_to_sql/execution",
    "replication/paper/text_to_sql/test_shipped_pairs": "replication/paper/text_to_sql/database",
    "replication/reproduce/test_interrupted_runs": "replication/reproduce/runner",
    "train/test_experts_resume": "train/experts",
    "train/test_optim_cost": "train/optim",
    "train/test_optim_trainer": "train/optim",
}
WHOLE_PROJECT = {"test_documents", "test_ground", "test_notebooks", "test_setup_lock", "test_tree", "test_waiting"}
WHOLE_PROJECT |= {"test_public_names", "test_wheel"}


def modules_in(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if path.name != "__init__.py")


def packages() -> Iterator[Path]:
    yield from (path.parent for path in sorted((ROOT / "mome").rglob("__init__.py")))


def test_the_package_has_eight_rooms_and_nothing_else():
    names = {path.name for path in (ROOT / "mome").iterdir() if path.name != "__pycache__"}
    assert names == ROOMS | {"__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("folder", [str(path.relative_to(ROOT)) for path in packages()])
def test_a_folder_is_small_and_says_what_is_in_it(folder: str):
    assert len(modules_in(ROOT / folder)) <= MOST_MODULES
    assert (ROOT / folder / "__init__.py").read_text("utf-8").startswith('"""')


@pytest.mark.parametrize("folder", [str(path.relative_to(ROOT)) for path in packages() if path != ROOT / "mome"])
def test_a_folder_says_in_three_to_eight_lines_what_is_in_it_and_where_to_start(folder: str):
    documentation = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text("utf-8"))) or ""
    assert 3 <= len(documentation.splitlines()) <= 8
    start = re.search(r"Start at (?:the )?`(\w+)`", documentation)
    assert start, "does not say where to start"
    assert start[1] in {*modules_in(ROOT / folder), *(path.name for path in (ROOT / folder).iterdir() if path.is_dir())}


def test_the_book_shows_each_module_with_its_first_line():
    page = file_tree.PAGE.read_text("utf-8")
    assert page == file_tree.with_tree(page), "run python tests/helpers/file_tree.py"


def test_every_folder_with_code_is_a_package():
    assert {path.parent for path in (ROOT / "mome").rglob("*.py")} == set(packages())


def test_each_notebook_has_its_folder_and_each_folder_its_notebook():
    stems = {path.stem.partition("_")[2] for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.name for path in packages() if path.parent.name == "paper"} == stems


def test_no_file_is_long():
    files = [path for name in ("mome", "kernels", "tests") for path in (ROOT / name).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES}


def test_each_test_lies_where_its_module_lies():
    lost = []
    names = [
        path.relative_to(ROOT / "tests").with_suffix("").as_posix() for path in (ROOT / "tests").rglob("test_*.py")
    ]
    for name in sorted(names):
        if name in WHOLE_PROJECT or name.startswith(("kernels/", "book/")):
            continue
        home = ROOT / "mome" / TOPICS.get(name, name.replace("/test_", "/"))
        folder = home if home.is_dir() else home.parent
        if not (home.is_dir() or home.with_suffix(".py").is_file()):
            lost.append(f"tests/{name}.py: there is no {home.relative_to(ROOT)}")
        elif folder.relative_to(ROOT / "mome") != Path(name).parent:
            lost.append(f"tests/{name}.py: belongs to {home.relative_to(ROOT)}, which lies elsewhere")
    assert not lost
    assert TOPICS.keys() <= set(names), "a topic whose tests are gone"


def test_each_kernel_test_names_an_operation_or_a_topic_of_all():
    operations = {path.parent.name for path in (ROOT / "kernels" / "mome_kernels").glob("*/__init__.py")}
    topics = {"compiled", "dispatch", "refusals", "topk_triton"}
    for path in (ROOT / "tests" / "kernels").glob("test_*.py"):
        name = path.stem.removeprefix("test_")
        assert name in topics or any(name == part or name.startswith(f"{part}_") for part in operations), path.name
