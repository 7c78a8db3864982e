"""Nothing waits for ever: a child process has a time limit. And no exception is swallowed."""

import ast
import subprocess
from pathlib import Path

import pytest

from mome.files import environment

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("mome", "kernels", "tests", "data")
RUNS = {f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output")}
WAITS = {"wait", "communicate", "join"}
UNLIMITED = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
# the last names of all that waits: writing out every call of the project takes seconds
LAST = WAITS | {name.rpartition(".")[2] for name in RUNS | UNLIMITED}


@pytest.fixture(scope="module")
def nodes() -> list[tuple[str, ast.Call | ast.ExceptHandler]]:
    """The calls and the handlers of exceptions in all sources, each with the name of its file."""
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for path in sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call | ast.ExceptHandler)
    ]


def waits_for_ever(call: ast.Call) -> bool:
    """A run without a time limit, or waiting for a process or a thread (`"".join(...)` has an argument)."""
    if (getattr(call.func, "attr", None) or getattr(call.func, "id", None)) not in LAST:
        return False
    limited = "timeout" in {keyword.arg for keyword in call.keywords}
    called = ast.unparse(call.func)
    if called in RUNS or called.endswith(".communicate"):
        return not limited
    waiting = isinstance(call.func, ast.Attribute) and call.func.attr in WAITS and not call.args
    return called in UNLIMITED or (waiting and not limited)


def swallows(handler: ast.ExceptHandler) -> bool:
    """A handler of any exception that neither raises nor uses it, or whose body does nothing."""
    wide = handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")
    raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    told = "traceback.format_exc" in ast.unparse(handler) or (
        handler.name is not None
        and any(isinstance(node, ast.Name) and node.id == handler.name for node in ast.walk(handler))
    )
    return all(isinstance(node, ast.Pass) for node in handler.body) or (wide and not raises and not told)


def test_every_child_process_has_a_time_limit(nodes: list[tuple[str, ast.Call | ast.ExceptHandler]]):
    found = [
        f"{name}:{node.lineno}: {ast.unparse(node)[:60]}"
        for name, node in nodes
        if isinstance(node, ast.Call) and waits_for_ever(node)
    ]
    assert not found


def test_no_exception_is_swallowed(nodes: list[tuple[str, ast.Call | ast.ExceptHandler]]):
    found = [f"{name}:{node.lineno}" for name, node in nodes if isinstance(node, ast.ExceptHandler) and swallows(node)]
    assert len(nodes) > 10_000 and not found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("subprocess.run(['a'], check=True)", True),
        ("subprocess.run(['a'], timeout=3)", False),
        ("child.wait()", True),
        ("child.communicate(b'x')", True),
        ("', '.join(words)", False),
        ("thread.join()", True),
        ("os.system('a')", True),
    ],
)
def test_what_waits_for_ever_is_seen(code: str, expected: bool):
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert waits_for_ever(call) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("except Exception: pass", True),
        ("except: value = None", True),
        ("except OSError: pass", True),
        ("except OSError: value = None", False),
        ("except BaseException:\n    close()\n    raise", False),
        ("except Exception as error: print(error)", False),
    ],
)
def test_what_swallows_is_seen(body: str, expected: bool):
    tree = ast.parse(f"try:\n    work()\n{body}")
    (handler,) = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    assert swallows(handler) is expected


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, subprocess.TimeoutExpired("git", 1)])
def test_git_that_does_not_answer_leaves_the_code_unnamed(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **settings: object) -> None:
        assert settings["timeout"]
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment._code_version() == ("unknown", None)
