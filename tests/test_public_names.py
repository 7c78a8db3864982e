"""What `from mome import ...` offers: each name has one home, and an example that runs."""

import ast
import doctest
from importlib.metadata import version
from pathlib import Path

import pytest

import mome

SOURCE = Path(mome.__file__).read_text("utf-8")


def names_for_type_checkers() -> set[str]:
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    return {name.name for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}


def test_the_three_lists_of_public_names_agree() -> None:
    assert mome.__all__ == sorted(mome.__all__)
    assert set(mome.__all__) == mome.HOMES.keys() == names_for_type_checkers()


def test_the_version_is_that_of_the_package() -> None:
    assert mome.__version__ == version("mome")


@pytest.fixture(scope="module")
def work_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples: the router that the first of them makes, of every 40th fact, serves the others."""
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize("name", mome.__all__)
def test_the_example_of_a_public_name_runs(
    name: str, work_folder: Path, small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOME_HOME", str(work_folder))
    monkeypatch.setenv("MOME_ROOT", str(small_root))
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(mome, name), name, globs={})
    problems: list[str] = []
    tried = doctest.DocTestRunner().run(example, out=problems.append)
    assert tried.attempted and not problems, "".join(problems)
