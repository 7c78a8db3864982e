"""Measurements run as processes: in order, within a time limit, and one that fails takes only its own kind along."""

from pathlib import Path

import pytest

from mome.replication.collect import schedule
from mome.replication.collect.measurements import Measurement
from mome.replication.collect.schedule import DONE, WAITED, run_all

# instead of the program: the options are statements
PROGRAM = "import sys\nexec(chr(10).join(sys.argv[4:]))"


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "COMMAND", PROGRAM)


def run(tmp_path: Path, *wanted: Measurement, jobs: int = 2, seconds: float = 60.0) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    return run_all(wanted, str(tmp_path), tmp_path / "logs", jobs, seconds, said.append), said


def test_one_starts_when_those_that_it_waits_for_are_done(tmp_path: Path) -> None:
    note = "print('1', file=open(sys.argv[3].replace('b.csv', 'a.csv'), 'a'))"
    first = Measurement("a", "a", ("import time; time.sleep(0.5)", note))
    second = Measurement("b", "b", ("assert open(sys.argv[3].replace('b.csv', 'a.csv')).read()",), ("a",))
    ended, said = run(tmp_path, second, first)
    assert ended == {"b": DONE, "a": DONE}
    assert said == ["a: started", "a: done (1 of 2)", "b: started", "b: done (2 of 2)"]


def test_one_that_fails_is_named_with_its_log_and_only_those_that_wait_for_it_are_left_out(tmp_path: Path) -> None:
    wanted = [
        Measurement("bad", "t", ("sys.exit('no such table')",)),
        Measurement("behind", "t", (), ("bad",)),
        Measurement("far behind", "t", (), ("behind",)),
        Measurement("beside", "t", ("print(1)",)),
    ]
    ended, _ = run(tmp_path, *wanted, jobs=1)
    assert ended["bad"].startswith("failed with exit code 1 after ")
    assert ended["bad"].endswith(f"see {tmp_path / 'logs' / 'bad.log'}")
    assert (tmp_path / "logs" / "bad.log").read_text() == "no such table\n"
    assert (ended["behind"], ended["far behind"], ended["beside"]) == (WAITED, WAITED, DONE)


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    ended, _ = run(tmp_path, Measurement("slow", "t", ("import time; time.sleep(300)",)), seconds=1.0)
    assert ended["slow"] == f"ended after its limit of 1 s, see {tmp_path / 'logs' / 'slow.log'}"


def test_what_is_not_wanted_is_not_waited_for(tmp_path: Path) -> None:
    assert run(tmp_path, Measurement("b", "t", (), ("a",)))[0] == {"b": DONE}


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_process_computes_in_one_thread_however_many_run_at_a_time(tmp_path: Path, jobs: int) -> None:
    look = "import os; sys.exit(os.environ['OMP_NUM_THREADS'] != '1')"
    assert run(tmp_path, Measurement("a", "t", (look,)), jobs=jobs)[0] == {"a": DONE}
