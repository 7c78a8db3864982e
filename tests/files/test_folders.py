"""No kill at any moment and no full disk leaves anything but the whole old or the whole new folder."""

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from numbered_checkpoints import load, members_of, names, number_of, save

from mome.files import checkpoints as manifest
from mome.files import folders as replacing
from mome.files.checkpoints import read_folder, write_checkpoint, write_folder

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # of a damaged checkpoint, or of a folder that stays

FORK = multiprocessing.get_context("fork")  # a child computes nothing with torch, whose threads do not survive a fork
OPERATIONS = (
    *((os, name) for name in ("mkdir", "rename", "fsync", "unlink", "rmdir")),
    *((manifest, "save_file"), (replacing, "exchange")),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "checkpoints"


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchanging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether folders change names in one call; without it they are set aside, as on systems that lack it."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    if request.param and not replacing.exchange(one, other):
        pytest.skip("this file system cannot exchange two folders")
    if not request.param:
        monkeypatch.setattr(replacing, "exchange", lambda *_: False)
    return request.param


# --- kills ---------------------------------------------------------------------------------------------------------


def write_for_ever(folder: Path, start: int, acknowledge: int) -> None:
    step = start
    while True:
        step += 1
        save(folder, step)
        os.write(acknowledge, struct.pack("<q", step))


def test_kills_at_random_moments_leave_a_whole_checkpoint(folder: Path) -> None:
    """Never a mix, never below the last step that was acknowledged, and no heap of leftovers."""
    generator = random.Random(0)
    save(folder, 0)
    last, leftovers = 0, 0
    for _ in range(36):
        reader, writer = os.pipe()
        child = FORK.Process(target=write_for_ever, args=(folder, last, writer))
        child.start()
        os.close(writer)
        os.read(reader, 8)  # the child is at work; a step lasts some 20 ms
        time.sleep(generator.uniform(0, 0.06))
        child.kill()
        child.join(timeout=60)
        assert child.exitcode == -signal.SIGKILL
        rest = os.read(reader, 65_536)
        os.close(reader)
        acknowledged = struct.unpack("<q", rest[-8:])[0] if rest else last + 1
        step, number = load(folder)
        assert step == number
        assert acknowledged <= step <= acknowledged + 1
        last = step
        hidden = [name for name in names(folder) if name.startswith(".")]
        assert len(hidden) <= 1
        leftovers += len(hidden)
    assert leftovers > 10, "too few kills came in the middle of a write"
    save(folder, last + 1)
    assert names(folder) == [f"step-{last:06d}", f"step-{last + 1:06d}"]


@contextmanager
def interrupted(action: Callable[[], None], at: int) -> Iterator[list[str]]:
    """Run `action` right before operation number `at` on the disk; gives the names of the operations begun."""
    begun: list[str] = []
    originals = [(module, name, getattr(module, name)) for module, name in OPERATIONS]

    def counting(name: str, original: Callable) -> Callable:
        def operation(*arguments: object, **options: object) -> object:
            begun.append(name)
            if len(begun) == at:
                action()
            return original(*arguments, **options)

        return operation

    for module, name, original in originals:
        setattr(module, name, counting(name, original))
    try:
        yield begun
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def write_next(folder: Path, number: int) -> None:
    save(folder, number, keep=1)


def write_same(folder: Path, number: int) -> None:
    save(folder, 5, number)


def write_single(folder: Path, number: int) -> None:
    write_folder(folder / "bank", members_of(number), {"number": number})


def read_number(folder: Path) -> int:
    return number_of(*read_folder(folder / "bank")) if not list(folder.glob("*step*")) else load(folder)[1]


WRITERS = [write_next, write_same, write_single]


def write_killed(write: Callable[[Path, int], None], folder: Path, at: int) -> None:
    with interrupted(lambda: os.kill(os.getpid(), signal.SIGKILL), at):
        write(folder, 6)


@pytest.mark.parametrize("write", WRITERS)
def test_a_kill_between_any_two_operations_leaves_the_old_or_the_new(
    write: Callable, folder: Path, exchanging: bool
) -> None:
    seen, at, finished = [], 0, False
    while not finished:
        at += 1
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, 5)
        child = FORK.Process(target=write_killed, args=(write, folder, at))
        child.start()
        child.join(timeout=60)
        finished = child.exitcode == 0
        assert finished or child.exitcode == -signal.SIGKILL
        seen.append(read_number(folder))
        assert read_number(folder) == seen[-1], "reading changes nothing"
        write(folder, 7)
        assert read_number(folder) == 7
        assert not [name for name in names(folder) if name.startswith(".")], at
    assert seen == sorted(seen) and set(seen) == {5, 6}
    # mkdir, save_file and fsync twice, fsync of manifest and both folders, 3 unlink, rmdir, and what puts it in place
    placing = (
        ["rename", "rename"] if write is write_next else ["exchange"] if exchanging else ["exchange", *["rename"] * 2]
    )
    assert at - 1 == 12 + len(placing)


# --- a full disk ---------------------------------------------------------------------------------------------------


def fail() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("write", WRITERS)
def test_an_error_at_any_operation_leaves_the_old_and_nothing_else(
    write: Callable, folder: Path, exchanging: bool
) -> None:
    """Up to the moment when the new one is safe; what fails after it is only the removal of the old one."""
    write(folder, 5)
    before, at, failed = names(folder), 0, []
    while True:
        at += 1
        try:
            with interrupted(fail, at) as begun:
                write(folder, 6)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            failed.append(begun[at - 1])
            if read_number(folder) == 6:
                break
            assert read_number(folder) == 5
            assert names(folder) == before
        except UserWarning:  # of a folder that could not be removed
            break
    assert read_number(folder) == 6
    assert failed[:2] == ["mkdir", "save_file"]
    assert (
        failed.count("save_file") == 2
        and failed.count("fsync") == 5
        and failed.count("exchange" if exchanging and write is not write_next else "rename") >= 1
    )


def test_a_disk_that_takes_no_more_leaves_the_old(folder: Path) -> None:
    save(folder, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (20_000, 1_000, 100):  # within the first member; within the second; within the header
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError) as caught:
                save(folder, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(folder) in str(caught.value)
        assert names(folder) == ["step-000001"]
        assert load(folder) == (1, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(OSError, match="File too large"):  # only the manifest is too long
            write_checkpoint(folder, 2, {"bank": {}}, {"text": "x" * 600})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(folder) == ["step-000001"]


# --- leftovers -----------------------------------------------------------------------------------------------------


def leftover(folder: Path, pid: int, token: str = "0123abcd", kind: str = "new", name: str = "step-000002") -> str:
    path = folder / f".{name}.{pid}.{token}.0.{kind}"
    path.mkdir(parents=True)
    (path / "bank.safetensors").write_bytes(b"half a fi")
    return path.name


@pytest.mark.parametrize("write", [write_same, write_single])
def test_what_was_set_aside_outlives_a_failing_next_write(write: Callable, folder: Path) -> None:
    """A kill between the two renames, then a full disk: the old folder has its name back, and none is lost."""
    write(folder, 5)
    (path,) = [folder / name for name in names(folder)]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    path.rename(folder / f".{path.name}.{ended.pid}.0123abcd.0.old")
    assert number_of(*read_folder(path)) == 5 if write is write_single else load(folder) == (5, 5)
    with pytest.raises(OSError, match="No space left"), interrupted(fail, at=4):
        write(folder, 6)
    assert names(folder) == [path.name]
    assert read_number(folder) == 5


def test_leftovers_go_unless_their_process_lives(folder: Path) -> None:
    sleeping = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    try:
        kept = {leftover(folder, sleeping.pid, kind=kind) for kind in ("new", "gone")}
        kept |= {leftover(folder, os.getpid(), replacing.TOKEN), leftover(folder, ended.pid, name="notes")}
        for pid in (ended.pid, zombie.pid, os.getpid()):  # the last: of an earlier process of the same id
            for kind in ("new", "gone"):
                leftover(folder, pid, kind=kind)
        save(folder, 1)
        assert set(names(folder)) == kept | {"step-000001"}
    finally:
        sleeping.communicate(b"\n", timeout=60)
        zombie.wait(timeout=60)
    save(folder, 2)
    assert not [name for name in names(folder) if f".{sleeping.pid}." in name]


def test_a_single_folder_leaves_its_neighbours_leftovers_alone(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    other = leftover(tmp_path, ended.pid, name="bank2")
    leftover(tmp_path, ended.pid, name="bank")
    write_folder(tmp_path / "bank", members_of(1), {})
    assert names(tmp_path) == [other, "bank"]
