"""`mome chat` with lines from a file: answers with their marks, commands, and what cannot be asked."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_editing import make_memory
from tiny_memory import UNRELATED
from typer.testing import CliRunner

from mome.cli import app
from mome.cli.chat import HELP, _write
from mome.cli.chat import chat as command
from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.memory.answers import backbone_answers
from mome.memory.memory import Memory


@pytest.fixture
def memory(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> Memory:
    found = make_memory(random_backbone, backbone_folder, facts)
    monkeypatch.setattr("mome.memory.loading.load_memory", lambda adapter, backbone: found)
    return found


def chat(text: str | bytes, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["chat", "adapter", "--longest", "8", *options], input=text)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


def test_each_answer_is_marked_with_who_gave_it(memory: Memory, facts: list[Fact]) -> None:
    code, output = chat(f"{facts[0].question}\n\n{UNRELATED[0]}\r\n{facts[1].question}")
    lines = output.splitlines()
    assert code == 0
    assert f"{facts[0].answer}  [memorized, score 1.00]" in lines
    assert f"{facts[1].answer}  [memorized, score 1.00]" in lines
    assert sum("  [backbone, score " in line for line in lines) == 1


def test_own_shows_the_backbones_answer_to_the_last_question(memory: Memory, facts: list[Fact]) -> None:
    code, output = chat(f"/own\n{facts[0].question}\n/own\n/new\n/own\n")
    own = backbone_answers(memory.backbone, [facts[0].question], 8)[0]
    assert code == 0 and output.count("no question yet") == 2
    assert output.count("  [backbone alone]") == 1 and own.split("\n")[0].split("\t")[0] in output


def test_quit_ends_it_and_an_unknown_command_is_explained(memory: Memory, facts: list[Fact]) -> None:
    code, output = chat(f"/help\n/quit\n{facts[0].question}\n")
    assert code == 0 and "unknown command /help: /own shows" in output and facts[0].answer not in output


@pytest.mark.parametrize(
    ("line", "complaint"), [(b"x" * 2_001, "at most 2,000"), (b"Quel caf\xe9?", "Windows-1252"), (b"Is it\0?", "NUL")]
)
def test_what_cannot_be_asked_is_named_by_its_line(
    memory: Memory, facts: list[Fact], line: bytes, complaint: str
) -> None:
    code, output = chat(facts[0].question.encode() + b"\n" + line + b"\n")
    assert code == 2 and "standard input, line 2" in output and complaint in output


def test_in_a_terminal_a_refused_question_ends_nothing(
    memory: Memory, facts: list[Fact], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["x" * 2_001, facts[0].question, EOFError()])

    def read(prompt: str) -> str:
        found = next(typed)
        if isinstance(found, EOFError):
            raise found
        return found

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    command(Path("adapter"), when_wrong="abstain", longest=8, backbone=None)
    shown = capsys.readouterr()
    assert "at most 2,000" in shown.err and shown.out.startswith(HELP)
    assert f"{facts[0].answer}  [memorized, score 1.00]" in shown.out


def test_control_characters_of_an_answer_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _write("a\x1b[2Jb\tc\nd")
    assert capsys.readouterr().out == "a\\x1b[2Jb\\x09c\nd"
