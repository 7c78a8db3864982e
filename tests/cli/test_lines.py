"""Questions are gathered a line each, and each answer is one line that can be read back."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mome.cli import app
from mome.cli.lines import answer_lines, escape, gather_questions
from mome.facts.strict import FactError
from mome.memory.checking import Answer

FOLDER = Path("adapter")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch):
    """Let the loaded memory give these answers."""

    def chosen(*answers: Answer) -> None:
        memory = SimpleNamespace(ask_all=lambda questions, when_wrong: list(answers))
        monkeypatch.setattr("mome.cli.lines.load_memory", lambda folder, backbone: memory)
        monkeypatch.setattr("mome.cli.lines.refuse_without_null_key", lambda folder: None)

    return chosen


# --- questions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Who?\nWhen? \n", ["Who?", "When?"]),
        (b"Who?\r\nWhen?\r\n", ["Who?", "When?"]),
        (b"Who?\nWhen?", ["Who?", "When?"]),
        (b"Who?\n\n \r\n\n", ["Who?"]),
        ("Who\u2028is\u0085it\x0bor\x0c\x1cshe?\nWhen?".encode(), ["Who\u2028is\u0085it\x0bor\x0c\x1cshe?", "When?"]),
        ("Wo ist das Tor?\r\n".encode("utf-8-sig"), ["Wo ist das Tor?"]),
        ("Wo ist der Schlüssel?\n".encode("utf-16"), ["Wo ist der Schlüssel?"]),
    ],
)
def test_a_line_ends_at_a_line_feed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[str]
) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes(content)
    assert gather_questions(["Where?"], path) == ["Where?", *expected]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))
    assert gather_questions([], Path("-")) == expected


@pytest.mark.parametrize(
    ("content", "line", "complaint"),
    [
        (b"Who?\n\nWhen?\n", 2, "must not be empty"),
        (b"\nWho?\n", 1, "must not be empty"),
        (b"Who?\nIs it\0?\n", 2, "NUL"),
        (b"Who?\rWhen?\r", 1, "a carriage return ends no line"),
        (b"Who?\nQuel caf\xe9?\n", 2, "Windows-1252"),
        (b"Who?\n" + b"x" * 2_001, 2, "2,001 characters"),
    ],
)
def test_questions_that_cannot_be_asked_are_named_by_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, line: int, complaint: str
) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes(content)
    with pytest.raises(FactError, match=re.escape(complaint)) as caught:
        gather_questions([], path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(FactError, match=f"standard input, line {line}"):
        gather_questions([], Path("-"))


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf"])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "questions.txt").write_bytes(content)
    with pytest.raises(ValueError, match="no question"):
        gather_questions([], tmp_path / "questions.txt")
    with pytest.raises(OSError):
        gather_questions([], tmp_path)


# --- answers -------------------------------------------------------------------------------------------------------

ODD = "C:\\temp\tx\r\ny\x1b[31m\u2028z\u0085\x7f \u200fא\u00a0é🙂"


def test_an_answer_is_one_line_of_two_fields(say) -> None:
    say(Answer(ODD, True, 0.875, True, "a"), Answer("plain"))
    first, second = answer_lines(FOLDER, ["Q?", "P?"], None, only_memorized=False)
    assert first == r"C:\\temp\tx\r\ny\u001b[31m\u2028z\u0085\u007f " + "\u200fא\u00a0é🙂\tmemorized, score 0.88"
    assert second == "plain\tnot verified"


def unescaped(field: str) -> str:
    """What README says the escapes stand for, put down once more."""
    short = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    return re.sub(r"\\(?:u(....)|(.))", lambda m: chr(int(m[1], 16)) if m[1] else short[m[2]], field)


@given(st.text(st.characters(codec="utf-8")))
def test_any_answer_can_be_read_back_from_its_field(text: str) -> None:
    field = escape(text)
    assert unescaped(field) == text and "\t" not in field and len(field.splitlines()) <= 1


def test_json_is_one_object_a_line_with_all_that_is_known(say) -> None:
    say(Answer(ODD, False, 0.5, True, "k1", "stored", "else"), Answer("no", False, 0.1, False, None, "backbone"))
    first, second = answer_lines(FOLDER, ["Q\t\u2028?", "P?"], None, only_memorized=True, as_json=True)
    assert json.loads(first) == {
        **{"question": "Q\t\u2028?", "answer": ODD, "memorized": False, "score": 0.5, "recognized": True},
        **{"fact": "k1", "source": "stored", "generated": "else", "read_as": None},
    }
    assert "\u200fא\u00a0é🙂" in first and len(first.splitlines()) == 1
    assert json.loads(second)["answer"] == "I don't know" and json.loads(second)["source"] == "nobody"


def test_the_command_prints_json_on_demand(say) -> None:
    say(Answer("under\tthe pot", True, 1.0, True, "k1"))
    done = CliRunner().invoke(app, ["ask", "adapter", "Where?", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["answer"] == "under\tthe pot"
    assert CliRunner().invoke(app, ["ask", "adapter", "Where?"]).stdout == "under\\tthe pot\tmemorized, score 1.00\n"


def test_a_closed_standard_input_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(OSError, match="standard input is closed"):
        gather_questions([], Path("-"))
