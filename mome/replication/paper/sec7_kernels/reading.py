"""The source of a kernel as it stands in the package, to be read in the notebook; Triton need not be there."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def kernel_source(operation: str, kernel: str) -> str:
    """The lines of function `kernel` in `mome.kernels.<operation>.triton`, its decorator among them.

    Raises:
        ValueError: there is no such operation, or it has no such kernel.
    """
    try:
        found = find_spec(f"mome.kernels.{operation}.triton")
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise ValueError(f"kernel_source: there is no operation {operation!r}")
    source = Path(found.origin).read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == kernel:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            return "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    raise ValueError(f"kernel_source: {operation} has no kernel {kernel!r}")
