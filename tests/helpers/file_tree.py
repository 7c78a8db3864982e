"""The book's file tree, made from the first line of each module. `python tests/helpers/file_tree.py` writes it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "notebooks" / "book" / "files.md"
BEGIN, END = "<!-- tree:begin -->\n", "<!-- tree:end -->\n"
FOLDED = ROOT / "mome" / "replication" / "paper"  # a line for each folder in it, none for its modules
COLUMN = 38  # where the phrases start


def phrase(path: Path) -> str:
    """What the first line of the module or package says, up to its first full stop."""
    documentation = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return re.split(r"(?<! al)\. ", documentation.split("\n")[0])[0].removesuffix(".")  # "et al. 2021" goes on


def entries(folder: Path) -> list[tuple[str, Path, Path | None]]:
    """Name, module with the phrase, and folder to go down to, of each module and then each package in `folder`."""
    modules = [(path.name, path, None) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    packages = [path.parent for path in sorted(folder.glob("*/__init__.py"))]
    below = [(f"{path.name}/", path / "__init__.py", None if path.parent == FOLDED else path) for path in packages]
    return [*modules, *below]


def lines(folder: Path, indent: str = "") -> Iterator[str]:
    """The tree below `folder`, a line for each module and package."""
    found = entries(folder)
    for place, (name, module, below) in enumerate(found):
        last = place == len(found) - 1
        yield f"{indent}{'└── ' if last else '├── '}{name}".ljust(COLUMN) + phrase(module)
        if below:
            yield from lines(below, indent + ("    " if last else "│   "))


def tree() -> str:
    """The block of notebooks/book/files.md between the two marks: the package, then the kernels."""
    kernels = ROOT / "kernels" / "mome_kernels"
    operations = sorted(kernels.glob("*/__init__.py"))
    shown = ["mome/".ljust(COLUMN) + phrase(ROOT / "mome" / "__init__.py"), *lines(ROOT / "mome")]
    shown += ["kernels/mome_kernels/".ljust(COLUMN) + phrase(kernels / "__init__.py")]
    shown += ["├── dispatch.py".ljust(COLUMN) + phrase(kernels / "dispatch.py")]
    for path in operations:
        mark = "└── " if path == operations[-1] else "├── "
        shown.append(f"{mark}{path.parent.name}/".ljust(COLUMN) + phrase(path))
    return "\n".join(["```", *shown, "```", ""])


def with_tree(page: str) -> str:
    """The text of `page` with the tree as it is now between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tree() + END + after


if __name__ == "__main__":
    path = PAGE
    path.write_text(with_tree(path.read_text("utf-8")), "utf-8")
