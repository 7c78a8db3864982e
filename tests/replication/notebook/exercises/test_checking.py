"""`check` prints one line, never raises for a cell that nobody has answered, and knows its exercises."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import torch

from mome.files.environment import repository_root
from mome.replication.notebook.exercises.checking import EXERCISES, check, judge


def test_it_prints_one_line(capsys: pytest.CaptureFixture[str]):
    check("02.b", 0.512)
    check("02.b", 0.4)
    check("02.b", None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("02.b: right: every second table")
    assert lines[1].startswith("02.b: not right: probabilities of rows")
    assert lines[2] == "02.b: not answered yet"


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("answer", [None, ...])
def test_a_cell_that_nobody_answered_is_no_error(name: str, answer: object):
    assert judge(name, answer, anything="that the cell passes").right is None


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no exercise '02\.x'.*'02\.[ab]'"):
        check("02.x", 1)


@dataclass(frozen=True)
class Lesson:
    """What one notebook has of exercises: the calls of `check`, the prose, and the folded solutions by name."""

    calls: list[ast.Call]
    prose: str
    solutions: dict[str, str]

    @classmethod
    def of(cls, path: Path) -> Lesson:
        cells = nbformat.read(path, as_version=4).cells
        trees = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
        nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
        prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        calls = [node for node in nodes if ast.unparse(node.func).removeprefix("lab.") == "check"]
        return cls(calls, prose, dict(SOLUTION.findall(prose)))

    def names(self) -> list[str]:
        return [ast.literal_eval(call.args[0]) for call in self.calls]


SOLUTION = re.compile(r"<details><summary>Solution (\S+)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
CODE = re.compile(r"```python\n(.+?)```", re.DOTALL)
LESSONS = {path.stem: Lesson.of(path) for path in sorted((repository_root() / "notebooks").glob("*.ipynb"))}
every_lesson = pytest.mark.parametrize("stem", LESSONS)


def test_each_exercise_stands_in_the_one_notebook_of_its_number():
    found = [(name, stem) for stem, lesson in LESSONS.items() for name in lesson.names()]
    assert sorted(name for name, _ in found) == sorted(EXERCISES)
    assert all(stem.startswith(name[:2]) for name, stem in found)


@every_lesson
def test_a_notebook_has_two_exercises_or_three(stem: str):
    assert 2 <= len(LESSONS[stem].names()) <= 3


@every_lesson
def test_each_exercise_is_asked_and_has_a_folded_solution(stem: str):
    lesson = LESSONS[stem]
    assert re.findall(r"\*\*Exercise (\S+)\.\*\*", lesson.prose) == lesson.names()
    assert list(lesson.solutions) == lesson.names()
    assert all(len(re.findall(r"[.:](?:\s|$)", text)) >= 2 for text in lesson.solutions.values())


@every_lesson
def test_a_cell_passes_what_its_exercise_takes(stem: str):
    for call in LESSONS[stem].calls:
        taken = inspect.signature(EXERCISES[ast.literal_eval(call.args[0])]).parameters.values()
        needed = {each.name for each in taken if each.default is inspect.Parameter.empty} - {"given"}
        assert {keyword.arg for keyword in call.keywords} == needed


@pytest.mark.parametrize("name", ["01.b", "05.a", "06.a", "12.a"])
def test_the_code_of_a_solution_is_right(name: str):
    (lesson,) = (lesson for lesson in LESSONS.values() if name in lesson.solutions)
    (text,) = CODE.findall(lesson.solutions[name])
    written: dict[str, object] = {"torch": torch}
    exec(text, written)
    assert judge(name, list(written.values())[-1]).right
