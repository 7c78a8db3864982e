"""The files of the live page: pinned packages, what is left out without npm, facts, and the script's own checks."""

import importlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mome.facts.names import Names, WordSet, one_slip, words
from mome.facts.readers import read_facts
from mome.facts.typing_key import COURTESIES, GREETINGS, typing_key, without_courtesies
from mome.files.hashing import file_sha256

LIVE = Path(__file__).parents[2] / "notebooks" / "book" / "live"
NODE = shutil.which("node")


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package `live`, which is a script beside the book's pages."""
    monkeypatch.syspath_prepend(LIVE.parent)
    yield importlib.import_module("live.__main__")
    for name in [name for name in sys.modules if name.partition(".")[0] == "live"]:
        del sys.modules[name]


@pytest.fixture
def npm(live: ModuleType) -> ModuleType:
    return importlib.import_module("live.npm")


def archive(folder: Path) -> Path:
    """A package of npm with two files."""
    (folder / "package").mkdir(parents=True)
    for name in ("a.js", "b.js"):
        (folder / "package" / name).write_text(f"// {name}\n", "utf-8")
    with tarfile.open(folder / "made-1.0.0.tgz", "w:gz") as made:
        made.add(folder / "package", "package")
    return folder / "made-1.0.0.tgz"


def pretend_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program of the name npm first on the path."""
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_package_is_taken_once_and_only_the_named_files(npm: ModuleType, tmp_path: Path, monkeypatch):
    made = archive(tmp_path / "made")
    pretend_npm(tmp_path / "bin", monkeypatch, f'echo asked >> {tmp_path}/asked; cp {made} "$4"')
    package = npm.Package("@some/made", "1.0.0", file_sha256(made), ("a.js",))
    for _ in range(2):
        (found,) = npm.take(package, tmp_path / "kept")
        assert found.read_text("utf-8") == "// a.js\n"
    assert (tmp_path / "asked").read_text("utf-8") == "asked\n"
    assert not list((tmp_path / "kept").rglob("b.js"))


@pytest.mark.parametrize(
    ("script", "said"), [("exit 1", "exit code 1"), ("cp MADE $4", "SHA-256 differs"), ("sleep 60", "within 1 seconds")]
)
def test_what_npm_cannot_get_is_said_in_a_sentence(script: str, said: str, npm: ModuleType, tmp_path, monkeypatch):
    made = archive(tmp_path / "made")
    pretend_npm(tmp_path / "bin", monkeypatch, script.replace("MADE", str(made)))
    monkeypatch.setattr(npm, "SECONDS", 1)
    with pytest.raises(npm.NotTaken, match=said):
        npm.take(npm.Package("made", "1.0.0", "0" * 64, ("a.js",)), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_without_npm_the_page_is_left_out_and_says_why(live: ModuleType, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = live.put_together(tmp_path / "live", tmp_path / "kept")
    assert [path.name for path in folder.iterdir()] == ["missing.txt"]
    assert "npm is not installed here" in (folder / "missing.txt").read_text("utf-8")
    assert "the live page is left out" in capsys.readouterr().err


def test_the_key_changes_with_the_facts(live: ModuleType, tmp_path: Path, monkeypatch):
    before = live.key()
    shutil.copytree(LIVE, tmp_path / "live")
    monkeypatch.setattr(live, "HERE", tmp_path / "live")
    assert live.key() == before
    with (tmp_path / "live" / "facts.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert live.key() != before


def test_there_are_a_hundred_facts_and_twenty_questions_that_are_none_of_them():
    facts = read_facts(LIVE / "facts.jsonl")
    unknown = (LIVE / "unknown.txt").read_text("utf-8").splitlines()
    assert len(facts) == len({fact.answer for fact in facts}) == 100
    assert len(set(unknown)) == 20 and not {*unknown} & {text for fact in facts for text in fact.all_wordings()}


def in_node(expression: str) -> object:
    """The value of a JavaScript expression in which `memory` is the module of that name."""
    script = f"import('{(LIVE / 'memory.js').as_uri()}').then((memory) => console.log(JSON.stringify({expression})))"
    done = subprocess.run([str(NODE), "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TYPED = (
    "Who tends the lighthouse at Cape Eren?",
    "  hello,  WHO tends the “lighthouse” at cape eren?!  thanks!",
    "Please: who's at O'Brien's U.S. house\u2019s 3.5-litre C++ .NET (shop)?",
    "\uff37\uff48\uff4f\u3000is it\u2026",
    "good morning who is it thank you",
    "please",
    "?!",
)


@pytest.mark.skipif(NODE is None, reason="no node is here to run the page's script")
def test_the_script_reads_questions_as_the_package_does():
    (keys, rests, found) = in_node(
        f"""((texts) => {{
        const known = Object.create(memory.Memory.prototype);
        known.greetings = {json.dumps([" ".join(each) for each in GREETINGS])};
        known.courtesies = {json.dumps([" ".join(each) for each in COURTESIES])};
        const keys = texts.map(memory.typingKey);
        return [keys, keys.map((key) => known.withoutCourtesies(key)), texts.map(memory.wordsOf)];
        }})({json.dumps(TYPED)})"""
    )
    assert keys == [typing_key(text) for text in TYPED]
    assert rests == [without_courtesies(typing_key(text)) for text in TYPED]
    assert found == [words(text) for text in TYPED]


@pytest.mark.skipif(NODE is None, reason="no node is here to run the page's script")
def test_the_script_compares_names_as_the_package_does():
    pairs = [
        ("kirkmore", "krikmore"),
        ("kirkmore", "kirkworth"),
        ("eren", "ern"),
        ("eren", "moro"),
        ("a", ""),
        ("", ""),
    ]
    stored = [
        WordSet(frozenset(words(text))) for text in ("the ship Grey Heron", "the ship Iron Daisy", "bell of 1412")
    ]
    names, asked = (
        Names(stored),
        [words(text) for text in ("the ship Grey Hreon?", "Iron ship", "a bell, 1413", "ship")],
    )
    slips, shares = in_node(
        f"""((pairs, asked) => {{
        const known = Object.create(memory.Memory.prototype);
        known.names = {json.dumps({"weights": names.weights, "shared": [sorted(each.shared) for each in stored]})};
        const shares = (each) => [0, 1, 2].map((number) => known.share(number, each));
        return [pairs.map(([a, b]) => memory.oneSlip(a, b)), asked.map(shares)];
        }})({json.dumps(pairs)}, {json.dumps(asked)})"""
    )
    assert slips == [one_slip(*pair) for pair in pairs]
    expected = [[names.share(number, each) for number in range(3)] for each in asked]
    assert [pytest.approx(row) for row in expected] == shares
