"""The loops of kills and damages pass on what is whole, and notice what is not."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm
from typer.testing import CliRunner

from mome.cli import app
from mome.replication.faults import actions, damaging, laying
from mome.replication.faults.damaging import KINDS, damage_loop
from mome.replication.faults.ground import NEW
from mome.replication.faults.killing import kill_loop
from mome.replication.faults.laying import edited_adapter, small_project, tune_facts, write_adapters

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def ground() -> Iterator[tuple[Path, Path]]:
    """The folder of a small project with two adapters, and their backbone; the facts in their own typing alone."""
    with small_project() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(laying, "MEMORY", {**laying.MEMORY, "typings": 0})
        yield folder, write_adapters(folder)


def test_a_few_kills_of_each_action_lose_nothing(ground: tuple[Path, Path]) -> None:
    folder, backbone = ground
    loops = [
        actions.kill_tuning(folder, lambda place: tune_facts(place, NEW, backbone), 1, seed=0),
        actions.kill_saving(folder, 3, seed=0),
        actions.kill_editing(folder, 3, seed=0),
    ]
    for counts in loops:
        assert counts.problems == [] and sum(counts.found.values()) == counts.kills
        assert f"{counts.kills} kills" in str(counts) and "lost 0" in str(counts)
    assert sum(counts.at_work for counts in loops) > 0


def test_a_damage_of_every_kind_is_refused_by_name(ground: tuple[Path, Path]) -> None:
    folder, _ = ground
    adapter = edited_adapter(folder)
    files = len([path for path in adapter.rglob("*") if path.is_file()])
    counts = damage_loop(adapter, folder / "damaged", files * len(KINDS), seed=1)
    assert counts.problems == []
    assert counts.refused + len(counts.harmless) == files * len(KINDS)
    assert len(counts.harmless) == len(KINDS) - 1  # of README.md alone; a swap damages another file as well


def test_damage_that_nobody_notices_is_reported(ground: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = ground
    for module in ("memory.loading", "adapter.saving.storage"):
        monkeypatch.setattr(f"mome.{module}.verify_adapter", lambda _: None)
    counts = damage_loop(folder / "older", folder / "damaged", 40, seed=0)
    assert counts.problems and "wrong 0" not in str(counts)


def test_a_writer_that_is_not_atomic_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "number"

    def write() -> None:
        with path.open("w") as file:
            for _ in range(20):
                file.write("7")
                file.flush()
                time.sleep(0.01)

    def check() -> str:
        return {"1": "old", "7" * 20: "new"}[path.read_text()]

    counts = kill_loop("write", lambda: path.write_text("1"), write, check, 20, seed=0)
    assert counts.at_work >= len(counts.problems) > 0 and "KeyError" in counts.problems[0]


def test_a_kill_at_the_lock_of_progress_bars_stops_no_later_action(tmp_path: Path) -> None:
    path = tmp_path / "number"

    def write() -> None:
        with tqdm.get_lock():
            time.sleep(0.2)
        path.write_text("2")

    usual = tqdm.get_lock()  # made before the fork, as by any bar
    names = {"1": "old", "2": "new"}
    counts = kill_loop("write", lambda: path.write_text("1"), write, lambda: names[path.read_text()], 4, seed=0)
    assert counts.at_work > 0
    assert usual.mp_lock.acquire(timeout=1)
    usual.mp_lock.release()


def test_an_action_that_fails_by_itself_is_no_result(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("by itself")

    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        kill_loop("fail", lambda: None, fail, lambda: "new", 3, seed=0)
    with pytest.raises(RuntimeError, match="even when it is not killed"):
        kill_loop("idle", lambda: None, lambda: None, lambda: "old", 3, seed=0)


def test_the_command_fails_where_something_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for problems, code in (([], 0), (["flip a bit in facts.jsonl: loaded"], 1)):
        counts = damaging.Damages(damages=1, problems=problems)
        monkeypatch.setattr("mome.replication.faults.command.adapter_loops", lambda *_, found=counts: [found])
        done = CliRunner().invoke(app, ["faults", "--only", "damage"])
        assert done.exit_code == code and f"wrong {len(problems)}" in done.output
    assert CliRunner().invoke(app, ["faults", "--only", "rain"]).exit_code == 2


def test_every_kind_of_damage_changes_the_file(tmp_path: Path) -> None:
    path, other = tmp_path / "one", tmp_path / "other"
    for kind, damage in KINDS.items():
        path.write_bytes(b"some bytes\x00\x00")
        other.write_bytes(b"others")
        damage(path, other, random.Random(kind))
        assert not path.exists() or path.read_bytes() != b"some bytes\x00\x00", kind
