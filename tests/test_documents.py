"""What the documents say of the tree is true: their paths exist, the questions are answered where they say."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "kernels/README.md", ".pre-commit-config.yaml"]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels").rglob("*/README.md"))
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks" / "book").rglob("*.md"))
FOLDERS = "book|mome|kernels|tests|notebooks|data|figures"
PATH = re.compile(rf"(?<![\w/.])(?:{FOLDERS})/[\w./*-]*[\w/*]")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)\)")
MODULE = re.compile(r"\bmome\.(?:adapter|cli|facts|files|lm|memory|replication|train)(?:\.\w+)+")
OUTSIDE_GIT = ("data/public/",)  # what a user puts there
QUESTION = re.compile(r"^\| ([^|]+\?) \| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)


def text_of(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


def questions() -> list[tuple[str, str, str]]:
    return QUESTION.findall(text_of("CONTRIBUTING.md"))


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """The functions, classes and annotated or assigned names of a module or a class."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_paths_in_a_document_exist(document: str):
    text = re.sub(r"\S*<[a-z ]+>\S*", "", text_of(document))  # `tests/kernels/test_<operation>.py` stands for many
    paths = {path for path in PATH.findall(text) if not path.startswith(OUTSIDE_GIT)}
    assert not [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip("/")))]
    links = LINK.findall(text)
    assert not [link for link in links if not ((ROOT / document).parent / link).exists()]


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_the_modules_in_a_document_exist(document: str):
    lost = []
    for name in sorted(set(MODULE.findall(text_of(document)))):
        path = ROOT / name.replace(".", "/")
        whole, owner = path.with_suffix(".py"), path.parent.with_suffix(".py")
        named_in_owner = owner.is_file() and path.name in defined(ast.parse(owner.read_text("utf-8")).body)
        if not (path.is_dir() or whole.is_file() or named_in_owner):
            lost.append(name)
    assert not lost


def test_there_are_ten_questions_or_more():
    assert len(questions()) >= 10


@pytest.mark.parametrize(("question", "file", "name"), questions())
def test_a_question_is_answered_where_contributing_says(question: str, file: str, name: str):
    body = ast.parse((ROOT / file).read_text("utf-8")).body
    for part in name.split("."):
        assert part in defined(body), f"{question} {file} has no {name}"
        body = getattr(defined(body)[part], "body", [])


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield re.sub(r"`[^`]*`", "", ast.get_docstring(node) or "")  # a name in code may be an old word


def test_docstrings_use_the_words_of_the_field():
    table = re.findall(r"^\| [^|]+ \| ([a-z ]+) \|$", text_of("CONTRIBUTING.md").partition("## Words")[2], re.MULTILINE)
    replaced = re.compile("|".join(word.replace("rests", "rests?") for word in table[1:6]), re.IGNORECASE)
    paths = sorted((ROOT / "mome").rglob("*.py"))
    found = {str(path.relative_to(ROOT)): replaced.findall("\n".join(docstrings(path))) for path in paths}
    assert len(table) > 5 and not {path: words for path, words in found.items() if words}


def test_the_floor_plan_in_contributing_is_that_of_the_contracts():
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract["layers"] for contract in contracts if "layers" in contract}
    text = text_of("CONTRIBUTING.md")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == layers["mome"]
    for container, room in layers.items():
        if container != "mome":
            line = re.search(rf"^- `{container.removeprefix('mome.')}`: ([^.]+)\.", text, re.MULTILINE)
            assert line, f"CONTRIBUTING does not say the order inside {container}"
            said = [re.findall(r"`(\w+)`", layer) for layer in line[1].split(" > ")]
            assert said == [layer.split(" : ") for layer in room]


def test_readme_is_a_front_door():
    assert len(text_of("README.md").splitlines()) <= 120
