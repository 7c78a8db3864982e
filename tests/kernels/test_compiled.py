"""Every kernel compiles for an H200 on any machine: the interpreter sees neither types nor limits of the hardware."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHARED_MEMORY = 227 * 1024  # of one program: CUDA C++ Programming Guide, technical specifications, capability 9.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `compiling.py` said of each kernel it compiled and each launch that failed."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, str(Path(__file__).with_name("compiling.py"))]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def kernels() -> set[str]:
    """The kernels in the sources: functions for Triton that no other such function names."""
    defined, named = set(), set()
    for path in sorted((ROOT / "kernels" / "mome_kernels").rglob("*.py")):
        for function in for_triton(ast.parse(path.read_text(encoding="utf-8"))):
            defined.add((path.parent.name, function.name))
            named |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return {f"{operation}/{name}" for operation, name in defined if name not in named}


def for_triton(module: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(getattr(found, "func", found)) for found in node.decorator_list}
            if "triton.jit" in decorators:
                yield node


def test_every_launch_compiles(reports: list[dict[str, Any]]) -> None:
    failed = [f"{report['launch']}:\n{report['error']}" for report in reports if "error" in report]
    assert not failed, "\n".join(failed)


def test_every_kernel_in_the_sources_was_launched(reports: list[dict[str, Any]]) -> None:
    assert "rows_gather/_gather_kernel" in kernels()
    assert kernels() - {report.get("kernel") for report in reports} == set()


def test_every_program_has_the_shared_memory_it_asks_for(reports: list[dict[str, Any]]) -> None:
    assert max(report["shared"] for report in reports if "kernel" in report) > 0
    assert [report for report in reports if report.get("shared", 0) > SHARED_MEMORY] == []
