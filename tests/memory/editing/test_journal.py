"""Edits on disk: loaded they give the same bits, a killed process leaves them whole, and no damage goes unnoticed."""

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_editing import CODE, TRAINING, answers_of, make_memory, same_state, state

from mome.adapter.saving.folder import AdapterError
from mome.adapter.saving.storage import EditsWarning
from mome.facts.fact import Fact
from mome.facts.readers import read_jsonl
from mome.files import snapshots as checkpoint
from mome.files.locking import BusyError
from mome.lm.loading import Backbone
from mome.memory.editing import journal
from mome.memory.loading import edit_memory, load_memory, read_history
from mome.memory.memory import Memory


@pytest.fixture(scope="module")
def saved(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved adapter of the eight facts, without edits."""
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    make_memory(random_backbone, backbone_folder, facts).save(folder)
    return folder


@pytest.fixture(scope="module")
def edited(saved: Path, facts: list[Fact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with six edits, which gave the states of `STATES`."""
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("edited") / "adapter"))
    STATES.clear()
    with opened(folder) as memory:
        STATES.append(state(memory))
        for change in (
            lambda: memory.add(CODE),
            lambda: memory.update(replace(facts[0], answer="Tehran")),
            lambda: memory.delete(facts[1].id),
            lambda: memory.rollback(1),
            lambda: memory.delete(CODE.id),
            lambda: memory.rollback(3),
        ):
            change()
            STATES.append(state(memory))
    return folder


STATES: list[dict[str, Any]] = []


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved adapter to edit."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


@pytest.fixture
def damaged(edited: Path, tmp_path: Path) -> Path:
    """A copy of the edited adapter to break."""
    return Path(shutil.copytree(edited, tmp_path / "damaged"))


@contextmanager
def opened(folder: Path) -> Iterator[Memory]:
    with edit_memory(folder) as memory:
        assert memory.editor is not None
        memory.editor.training |= TRAINING
        yield memory


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))}


def record(folder: Path, number: int) -> Path:
    return folder / "edits" / f"{number:06d}.safetensors"


# --- on disk and back ----------------------------------------------------------------------------------------------


def test_a_loaded_adapter_has_the_state_after_its_last_edit_and_goes_back_to_any(edited: Path) -> None:
    memory = load_memory(edited)
    assert same_state(state(memory), STATES[-1]) and same_state(STATES[-1], STATES[3])
    assert [done.kind for done in memory.history()] == ["add", "update", "delete", "rollback", "delete", "rollback"]
    assert memory.history() == read_history(edited)
    for number in (5, 0, 2, 6, 4, 1, 3):
        memory.rollback(number)  # in memory alone
        assert same_state(state(memory), STATES[number])
    assert len(read_history(edited)) == 6 and len(memory.history()) == 13


def test_edits_go_on_where_another_process_stopped(damaged: Path, facts: list[Fact]) -> None:
    with opened(damaged) as memory:
        memory.rollback(0)
        memory.delete(facts[-1].id)
    loaded = load_memory(damaged)
    assert [done.number for done in loaded.history()] == [*range(1, 9)] and loaded.facts == facts[:-1]
    assert [answers_of(loaded, fact) for fact in facts[:-1]] == [[fact.answer] * 2 for fact in facts[:-1]]


def test_a_rolled_back_adapter_is_saved_with_the_digests_of_the_first_one(
    edited: Path, saved: Path, facts: list[Fact], tmp_path: Path
) -> None:
    memory = load_memory(edited)
    memory.rollback(0)
    memory.save(tmp_path / "again")
    assert digests(tmp_path / "again" / "bank") == digests(saved / "bank") != {}
    assert read_jsonl(tmp_path / "again" / "facts.jsonl") == facts
    assert load_memory(tmp_path / "again").history() == []


def test_an_edited_memory_saved_elsewhere_is_the_start_of_a_new_history(edited: Path, tmp_path: Path) -> None:
    memory = load_memory(edited)
    memory.save(tmp_path / "new")
    loaded = load_memory(tmp_path / "new")
    assert same_state(state(loaded), STATES[-1]) and loaded.history() == []
    for fact in loaded.facts:
        loaded.delete(fact.id)
    loaded.save(tmp_path / "empty")
    assert load_memory(tmp_path / "empty").facts == []


def test_an_adapter_is_not_saved_over_edits(edited: Path, saved: Path) -> None:
    with pytest.raises(AdapterError, match="holds edits of the adapter there"):
        load_memory(saved).save(edited)


def test_a_record_holds_the_touched_rows_and_not_the_others(edited: Path, saved: Path) -> None:
    for number in (1, 2, 3):
        done = read_history(edited)[number - 1]
        tensors = journal_tensors(edited, number)
        assert len(tensors["ids"]) == done.rows <= 16
        assert all(len(values) <= max(done.rows, 5) for values in tensors.values())
    assert not journal_tensors(edited, 4)  # a rollback needs none


def journal_tensors(folder: Path, number: int) -> dict[str, torch.Tensor]:
    return journal._read(record(folder, number))[2]


def test_peft_says_that_it_does_not_make_the_edits(
    edited: Path, saved: Path, backbone: Backbone, recwarn: pytest.WarningsRecorder
) -> None:
    load_memory(edited)
    assert not [each for each in recwarn if each.category is EditsWarning]
    with pytest.warns(EditsWarning, match="edits: these edits are not made here"):
        PeftModel.from_pretrained(backbone.model, str(edited))


def test_edits_in_memory_do_not_reach_the_folder(folder: Path, facts: list[Fact]) -> None:
    memory = load_memory(folder)
    memory.delete(facts[0].id)
    assert load_memory(folder).facts == facts and not (folder / "edits").exists()


def test_one_process_edits_at_a_time(folder: Path, facts: list[Fact]) -> None:
    with opened(folder):
        with pytest.raises(BusyError, match="adapter: another process is writing"), opened(folder):
            raise AssertionError
        with pytest.raises(BusyError, match="adapter: another process is writing"):
            load_memory(folder).save(folder)
        assert load_memory(folder).facts == facts
    with opened(folder) as memory:
        memory.delete(facts[0].id)


def test_a_disk_that_is_full_refuses_the_edit(folder: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left")

    with opened(folder) as memory:
        before = state(memory)
        monkeypatch.setattr(journal, "save_snapshot", full)
        with pytest.raises(OSError, match="no space"):
            memory.delete(facts[0].id)
        assert same_state(state(memory), before) and memory.history() == []
        monkeypatch.undo()
        monkeypatch.setattr(journal, "write_json", full)
        with pytest.warns(UserWarning, match="the edit is safe"):
            memory.delete(facts[0].id)
        with pytest.raises(OSError, match="no space"):  # the journal waits for its head
            memory.delete(facts[1].id)
        monkeypatch.undo()
        memory.delete(facts[2].id)
    assert load_memory(folder).facts == [facts[1], *facts[3:]]


# --- kill -9 -------------------------------------------------------------------------------------------------------


def forked(work: Callable[[], None]) -> int:
    """Run `work` in a child process; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def kill_at(point: int) -> None:
    """Have this process killed at its `point`-th write, sync or rename, counted from 0; half of a write is done."""
    seen = iter(range(1_000_000))

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            last = next(seen) == point
            if last and function is save_file:
                function(*arguments, **options)
                os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    save_file = checkpoint.save_file
    os.fsync, os.replace, checkpoint.save_file = dying(os.fsync), dying(os.replace), dying(save_file)


def check_left_whole(folder: Path, states: list[dict[str, Any]], fact: Fact) -> int:
    """The folder has one of `states`, by the length of its history, and can be edited on; returns that length."""
    with opened(folder) as memory:
        count = len(memory.history())
        assert same_state(state(memory), states[count])
        memory.delete(fact.id)
    assert len(read_history(folder)) == count + 1
    assert not [path for path in (folder / "edits").iterdir() if path.name.startswith(".")]
    return count


def test_a_process_killed_at_any_write_leaves_the_state_before_or_after_the_edit(
    folder: Path, facts: list[Fact], tmp_path: Path
) -> None:
    memory = load_memory(folder)
    states = [state(memory)]
    memory.delete(facts[0].id)
    states += [state(memory), states[0]]
    reached = []
    for point in range(1_000):
        place = Path(shutil.copytree(folder, tmp_path / str(point)))

        def work(place: Path = place, point: int = point) -> None:
            with opened(place) as own:
                kill_at(point)
                own.delete(facts[0].id)
                own.rollback(0)

        _, status = os.waitpid(forked(work), 0)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        reached.append(check_left_whole(place, states, facts[1]))
    assert reached == sorted(reached) and {*reached} == {0, 1, 2} and len(reached) > 12


def test_a_process_killed_at_any_time_leaves_the_state_before_or_after_an_edit(
    folder: Path, facts: list[Fact], tmp_path: Path
) -> None:
    memory = load_memory(folder)
    assert memory.editor is not None
    memory.editor.training |= TRAINING
    states, draw = [state(memory)], random.Random(0)
    unedited = shutil.copyfile(folder / "manifest.json", tmp_path / "manifest.json")
    for change in (memory.add, memory.update):
        change(CODE if change == memory.add else replace(CODE, answer="Tom"))
        states.append(state(memory))

    def work() -> None:
        with opened(folder) as own:
            own.add(CODE)
            own.update(replace(CODE, answer="Tom"))

    for _ in range(4):
        shutil.rmtree(folder / "edits", ignore_errors=True)
        shutil.copyfile(unedited, folder / "manifest.json")
        child = forked(work)
        time.sleep(draw.uniform(0.2, 1.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        check_left_whole(folder, states, facts[1])
