"""What `from mome import ...` offers: each name has one home, and an example that runs."""

import ast
import doctest
from importlib.metadata import version
from pathlib import Path

import pytest

import mome

ROOT = Path(__file__).resolve().parents[1]


def names_for_type_checkers() -> set[str]:
    (block,) = [
        node for node in ast.parse((ROOT / "mome" / "__init__.py").read_text()).body if isinstance(node, ast.If)
    ]
    return {name.name for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}


def test_the_three_lists_of_public_names_agree() -> None:
    assert mome.__all__ == sorted(mome.__all__)
    assert set(mome.__all__) == mome.HOMES.keys() == names_for_type_checkers()


def test_the_version_is_that_of_the_package() -> None:
    assert mome.__version__ == version("mome")
    with pytest.raises(AttributeError, match="nothing"):
        _ = mome.nothing


@pytest.mark.parametrize("name", mome.__all__)
def test_the_example_of_a_public_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "work"))
    examples = doctest.DocTestFinder(recurse=False).find(getattr(mome, name), name, globs={})
    assert [test.name for test in examples if test.examples] == [name]
    problems: list[str] = []
    doctest.DocTestRunner().run(examples[0], out=problems.append)
    assert not problems, "".join(problems)
