"""A saved adapter takes an older one's place in one act, whenever the disk is full or the process killed."""

import errno
import importlib
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from safetensors import SafetensorError
from tiny_models import assert_same, inner, make_backbone, remembering, taught_model

from mome.facts.fact import Fact
from mome.files import folders as replacing
from mome.files.hashing import file_sha256
from mome.files.sealed import CheckpointError
from mome.memory.loading import load_memory
from mome.memory.memory import Memory


def full_disk(_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_safetensors(name: str) -> None:
    if "save_file" in name:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def kill(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# every way in which a save writes: opened files, safetensors, flushes, renames, links, folders
WRITES = [
    ("builtins", "open"),
    ("os", "fsync"),
    ("os", "link"),
    ("os", "rename"),
    ("os", "mkdir"),
    ("mome.files.folders", "exchange"),
    ("peft.peft_model", "safe_save_file"),
    ("mome.files.checkpoints", "save_file"),
    ("mome.files.snapshots", "save_file"),
]


def interrupt(patch: pytest.MonkeyPatch, action: Callable[[Any], None], at: int) -> list[str]:
    """Have `action` happen at write number `at`, counted from 1; gives the names of the writes begun."""
    begun: list[str] = []

    def guarded(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            reading = name == "open" and "r" in str((*arguments, "r")[1] if len(arguments) > 1 else "r")
            if not reading and options.get("closefd") is not False:
                begun.append(name)
                if len(begun) == at:
                    action(name)
            return original(*arguments, **options)

        return call

    for module, name in WRITES:
        owner = importlib.import_module(module)
        patch.setattr(owner, name, guarded(name, getattr(owner, name)))
    return begun


@pytest.mark.parametrize("action", [full_disk, full_safetensors])
@pytest.mark.filterwarnings("ignore:.*cannot be removed")
def test_a_full_disk_at_any_write_leaves_a_whole_adapter_and_nothing_else(
    action: Callable[[Any], None], folder: Path, memory: Memory, facts: list[Fact]
) -> None:
    """A failed save leaves the older one untouched; where a write is not needed, the save goes on."""
    (folder / "checkpoints").mkdir()
    at, failed, begun = 0, set(), [""]
    while at <= len(begun):
        at += 1
        before, number = file_sha256(folder / "manifest.json"), folder.stat().st_ino
        with pytest.MonkeyPatch.context() as patch:
            begun = interrupt(patch, action, at)
            try:
                memory.save(folder)
            except OSError as error:
                assert str(folder) in str(error) and "No space left" in str(error) and "\n" not in str(error)
                failed.add(begun[at - 1])
                assert folder.stat().st_ino == number and file_sha256(folder / "manifest.json") == before
        assert sorted(path.name for path in folder.parent.iterdir()) == ["adapter"]
    assert failed >= ({"safe_save_file", "save_file"} if action is full_safetensors else {"open", "fsync", "exchange"})
    assert load_memory(folder).ask(facts[0].question).text == facts[0].answer


def test_files_that_may_not_grow_leave_the_older_adapter(folder: Path, memory: Memory) -> None:
    """The system's own refusal, in PEFT's file, the bank, the facts and the manifest."""
    before = file_sha256(folder / "manifest.json")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 1_000, 3_000, 8_000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match=r"adapter: cannot be written .*File too large") as caught:
                memory.save(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(caught.value) and file_sha256(folder / "manifest.json") == before
        assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def left_by(place: Path) -> tuple[object, ...]:
    """What a killed save left in a folder: adapters are loaded once for all kills that left the same.

    Private folders have the number of a process in their names: without it. Of what one that is not finished, or is
    being removed, holds nothing is ever read.
    """
    found = set[object]()
    for path in place.rglob("*"):
        name = replacing.PRIVATE.sub(r".\g<name>.\g<kind>", path.relative_to(place).as_posix())
        if not re.search(r"\.(new|gone)/", name):
            found.add((name, file_sha256(path) if path.is_file() else None))
    return tuple(sorted(found, key=str))


@pytest.mark.parametrize("exchanging", [True, False], ids=["exchange", "two renames"])
@pytest.mark.filterwarnings("ignore:.*saving was interrupted")
def test_a_kill_at_any_write_leaves_the_older_or_the_newer_adapter(
    exchanging: bool, folder: Path, memory: Memory, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanging:
        monkeypatch.setattr(replacing, "exchange", lambda *_: False)
    memory.delete(facts[0].id)
    found, at = [], 0
    loaded: dict[object, int] = {}
    try:
        while not found or found[-1] == 8 or at < 20:
            at += 1
            child = os.fork()
            if not child:
                interrupt(monkeypatch, kill, at)
                memory.save(folder)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            left = left_by(folder.parent)
            if left not in loaded:
                loaded[left] = len(load_memory(folder).facts)
            found.append(loaded[left])
            if os.WIFEXITED(status):
                break
    finally:
        memory.rollback(0)
    assert sorted(found, reverse=True) == found and set(found) == {8, 7} and at > 15
    memory.save(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_peft_saves_beside_the_files_of_a_trainer(tmp_path: Path) -> None:
    first, second = remembering(), taught_model()
    first.save_pretrained(tmp_path / "checkpoint-5")
    (tmp_path / "checkpoint-5" / "optimizer.pt").write_bytes(b"state")
    second.save_pretrained(tmp_path / "checkpoint-5")
    assert (tmp_path / "checkpoint-5" / "optimizer.pt").read_bytes() == b"state"
    assert_same(PeftModel.from_pretrained(make_backbone(), tmp_path / "checkpoint-5"), second)


@pytest.mark.filterwarnings("ignore:.*saving was interrupted")
def test_a_kill_where_the_folder_cannot_be_replaced_leaves_one_whole_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder: the older adapter is kept inside until the new one is whole."""
    first, second = remembering(), remembering(min_score=0.5)
    monkeypatch.chdir(tmp_path)
    first.save_pretrained(".")
    (tmp_path / "notes.txt").write_text("mine")
    seen, loaded = set(), set[object]()
    for at in range(1, 200):
        child = os.fork()
        if not child:
            interrupt(monkeypatch, kill, at)
            second.save_pretrained(".")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if (left := left_by(tmp_path)) not in loaded:
            loaded.add(left)
            seen.add(loaded_threshold(tmp_path))
        if os.WIFEXITED(status):
            break
    assert seen == {None, 0.5} and (tmp_path / "notes.txt").read_text() == "mine"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def loaded_threshold(folder: Path) -> float | None:
    """The rejection threshold of the whole adapter in a folder."""
    try:
        model = PeftModel.from_pretrained(make_backbone(), str(folder))
    except CheckpointError as error:  # PEFT has read one configuration, and the other adapter is whole
        model = PeftModel.from_pretrained(make_backbone(), str(error).rpartition("load ")[2])
    return inner(model).router.min_score
