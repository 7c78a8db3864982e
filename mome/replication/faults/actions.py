"""The actions that are killed: tune, save over an older adapter, edit, and reproduce."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from mome.files.environment import HOME_VARIABLE, repository_root
from mome.memory.loading import edit_memory, load_memory
from mome.replication.faults.ground import OLD, copied, fingerprint_of, load_state
from mome.replication.faults.killing import Kills, kill_loop
from mome.replication.notebook.results import read_result

CHEAPEST = "08_sec1_cost"
AGAIN = 10  # every this many killed runs are called again
CODE = "from mome.cli import app; app()"


def kill_tuning(folder: Path, tune: Callable[[Path], None], kills: int, seed: int) -> Kills:
    """`tune`, to a folder with an older adapter of other facts; a killed one goes on when called again."""
    older, place = folder / "older", folder / "tuned"
    states = _states(older, folder / "newer")

    checked = count()

    def check() -> str:
        found = states[fingerprint_of(load_state(place))]
        if next(checked) % AGAIN == 0:
            tune(place)
            if states[fingerprint_of(load_state(place))] != "new":
                raise RuntimeError("a killed run did not go on")
        return found

    return kill_loop(
        "tune",
        lambda: _fresh(older, place),
        lambda: tune(place),
        check,
        kills,
        seed,
    )


def kill_saving(folder: Path, kills: int, seed: int) -> Kills:
    """A save over an older adapter."""
    older, place = folder / "older", folder / "saved"
    states, memory = _states(older, folder / "newer"), load_memory(folder / "newer")
    return kill_loop(
        "save",
        lambda: _fresh(older, place),
        lambda: memory.save(place),
        lambda: states[fingerprint_of(load_state(place))],
        kills,
        seed,
    )


def kill_editing(folder: Path, kills: int, seed: int) -> Kills:
    """One fact updated and another one deleted, in a saved adapter."""
    older, place = folder / "older", folder / "edited"

    def edit() -> None:
        with edit_memory(place) as memory:
            memory.update(replace(OLD[0], answer="4242"))
            memory.delete(OLD[1].id)

    def check() -> str:
        state = load_state(place)
        held, said = {fact.id: fact.answer for fact in state["facts"]}, state["answers"]
        done = state["edits"]
        fits = [
            said[0] == held[OLD[0].id] == ("4242" if done else OLD[0].answer),
            (OLD[1].id in held) == (done < 2),
            said[2:] == [fact.answer for fact in OLD[2:]],
        ]
        if not all(fits):
            raise RuntimeError(f"after {done} edits it holds {held} and says {said}")
        return ("old", "old, 1 of 2 edits", "new")[done]

    return kill_loop("edit", lambda: _fresh(older, place), edit, check, kills, seed)


def kill_reproducing(kills: int, seed: int, stem: str = CHEAPEST) -> Kills:
    """`mome reproduce` of the cheapest notebook at smoke size, killed with its kernel; the last run is not."""
    with TemporaryDirectory(prefix="mome-faults-") as name:
        home = Path(name) / "work"
        environment = {**os.environ, HOME_VARIABLE: str(home), "MOME_ROOT": str(repository_root())}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])

        def reproduce() -> None:
            command = [sys.executable, "-c", CODE, "reproduce", "--profile", "smoke", "--only", stem, "--force"]
            done = subprocess.run(
                command, env=environment, capture_output=True, timeout=280, check=False, start_new_session=True
            )
            if done.returncode:
                raise RuntimeError(done.stdout.decode(errors="replace")[-2_000:])

        def check() -> str:
            _kill_strays(home)
            results = [*home.glob(f"smoke/results/{stem}.json")]
            for path in results:
                read_result(path)
            return "new" if results else "old"

        counts = kill_loop("reproduce", lambda: shutil.rmtree(home, ignore_errors=True), reproduce, check, kills, seed)
        reproduce()
        return counts


def _kill_strays(home: Path) -> None:
    """End the runner and its kernel, which outlive the process that started them, by their work folder."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(HOME_VARIABLE) == str(home):
                process.send_signal(signal.SIGKILL)
                process.wait(10)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # ended meanwhile, or another user's


def _states(older: Path, newer: Path) -> dict[str, str]:
    return {fingerprint_of(load_state(older)): "old", fingerprint_of(load_state(newer)): "new"}


def _fresh(older: Path, place: Path) -> None:
    """The older adapter again, without the checkpoints of its facts, so that others may be tuned there."""
    copied(older, place)
    shutil.rmtree(place / "checkpoints")
