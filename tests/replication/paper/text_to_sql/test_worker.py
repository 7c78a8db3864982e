"""The process that runs statements: bounded, replaced when it ends, gone with its parent; and files of any kind."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from mome.replication.paper.text_to_sql.database import build_database
from mome.replication.paper.text_to_sql.execution import Limits, run_sql
from mome.replication.paper.text_to_sql.supervisor import SUPERVISOR
from mome.replication.paper.text_to_sql.worker import FILES, HEAP, MEMORY

LONG_CALL = "length(printf('%.*c',1000000000,'x'))"
DOUBLING = "with c0 as (select 1 x)" + "".join(
    f",c{place} as (select a.x from c{place - 1} a,c{place - 1} b)" for place in range(1, 40)
)
SCRIPT = f"""
import sys
from pathlib import Path
from mome.replication.paper.text_to_sql.execution import Limits, run_sql
from mome.replication.paper.text_to_sql.supervisor import SUPERVISOR
run_sql(Path(sys.argv[1]), "select 1")
print(SUPERVISOR._worker.process.pid, flush=True)
if sys.argv[2] == "busy":
    run_sql(Path(sys.argv[1]), "select {LONG_CALL}", Limits(seconds=600))
elif sys.argv[2] == "idle":
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("attacked") / "workshop.sqlite")


# --- files that are no ordinary database ---------------------------------------------------------------------------


def test_a_file_that_is_no_database_or_is_damaged_is_an_error(database: Path, tmp_path: Path):
    content = database.read_bytes()
    wrong = {"text": b"no database at all" * 1_000, "cut": content[:5_000], "zeros": content[:4096] + bytes(40_000)}
    for name, found in wrong.items():
        (tmp_path / name).write_bytes(found)
        outcome = run_sql(tmp_path / name, "select * from job")
        assert outcome.error and outcome.rows is None
        assert (tmp_path / name).read_bytes() == found
    (tmp_path / "empty").touch()
    assert "no such table" in (run_sql(tmp_path / "empty", "select * from job").error or "")


def test_a_locked_file_is_an_error_at_once(database: Path, tmp_path: Path):
    path = tmp_path / "locked.sqlite"
    path.write_bytes(database.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        assert "locked" in (run_sql(path, "select * from part").error or "")
    assert len(run_sql(path, "select * from part").rows or []) == 10


def test_a_file_is_read_as_it_is_now(database: Path, tmp_path: Path):
    path = tmp_path / "odd name %3f ?#é.sqlite"
    for rows in (1, 2):
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table t(a)")
            connection.executemany("insert into t values(?)", [(1,)] * rows)
            connection.commit()
        assert run_sql(path, "select count(*) from t").rows == [(rows,)]
    link = tmp_path / "link"
    link.symlink_to(path.name)
    assert run_sql(link, "select count(*) from t").rows == [(2,)]


@pytest.mark.parametrize("kind", ["missing", "folder", "loop", "pipe"])
def test_what_is_no_file_is_named(kind: str, tmp_path: Path):
    path = tmp_path / kind
    made = {"folder": path.mkdir, "loop": lambda: path.symlink_to(kind), "pipe": lambda: os.mkfifo(path)}
    made.get(kind, lambda: None)()
    with pytest.raises(FileNotFoundError, match=f"{kind}: no such database"):
        run_sql(path, "select 1")


def test_a_write_ahead_log_is_read_and_none_is_made(tmp_path: Path):
    path = tmp_path / "log.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t(a)")
        connection.execute("insert into t values(1)")
        connection.commit()
        files = sorted(tmp_path.iterdir())
        assert run_sql(path, "select a from t").rows == [(1,)]  # it stands in the log only
        assert sorted(tmp_path.iterdir()) == files
    assert run_sql(path, "select a from t").rows == [(1,)]
    assert sorted(tmp_path.iterdir()) == [path]


# --- the process ---------------------------------------------------------------------------------------------------


def worker_of(database: Path) -> int:
    run_sql(database, "select 1")
    assert SUPERVISOR._worker is not None
    return SUPERVISOR._worker.process.pid


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be read on Linux only")
def test_the_worker_has_limits_of_memory_files_and_time(database: Path):
    pid = worker_of(database)
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] == MEMORY
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == FILES
    assert 5 < resource.prlimit(pid, resource.RLIMIT_CPU)[0] < 60
    assert f"MemoryError: more than {HEAP} bytes" == run_sql(database, DOUBLING + " select 1 from c39").error


def test_a_worker_that_something_else_ended_is_replaced(database: Path):
    pid = worker_of(database)
    os.kill(pid, signal.SIGKILL)
    SUPERVISOR._worker.process.wait(timeout=60)  # type: ignore[union-attr]
    assert worker_of(database) != pid


def test_a_worker_that_is_ended_during_a_statement_is_named_and_replaced(database: Path):
    pid = worker_of(database)
    timer = threading.Timer(0.3, os.kill, (pid, signal.SIGTERM))
    timer.start()
    outcome = run_sql(database, f"select {LONG_CALL}", Limits(seconds=60))
    timer.join(timeout=60)
    assert outcome.error == "the process that ran it ended: SIGTERM"
    assert worker_of(database) != pid


def test_a_worker_that_is_stopped_is_ended(database: Path):
    pid = worker_of(database)
    os.kill(pid, signal.SIGSTOP)
    assert run_sql(database, "select 1", Limits(seconds=0.2)).error == "ended from outside after 0.7 seconds"
    assert worker_of(database) != pid


def test_an_exception_during_a_statement_leaves_no_answer_for_the_next(database: Path):
    """Ctrl-C: the answer of the interrupted statement must not become that of the next one."""
    worker_of(database)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            run_sql(database, f"select {LONG_CALL}", Limits(seconds=60))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert run_sql(database, "select 2").rows == [(2,)]


def test_threads_get_their_own_answers(database: Path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: run_sql(database, f"select {number}").rows, range(200)))
    assert found == [[(number,)] for number in range(200)]


def test_a_forked_process_gets_a_worker_of_its_own(database: Path):
    pid = worker_of(database)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(worker_of(database)).encode())
            SUPERVISOR.close()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        other = int(pipe.read())
    os.waitpid(child, 0)
    assert other != pid
    assert worker_of(database) == pid


@pytest.mark.parametrize("state", ["idle", "busy", "done"])
def test_the_worker_ends_with_its_parent(state: str, database: Path):
    """The parent is killed while it waits for nothing or for a statement, or ends by itself."""
    command = [sys.executable, "-c", SCRIPT, str(database), state]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        if state == "done":
            assert parent.wait(timeout=60) == 0
        parent.kill()
        parent.wait(timeout=60)
    ended = subprocess.run(["tail", f"--pid={worker}", "-f", "/dev/null"], timeout=60, check=False)
    assert ended.returncode == 0


def test_a_worker_that_cannot_start_is_an_error_of_the_machine(database: Path, tmp_path: Path):
    SUPERVISOR.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(OSError, match=r"worker\.py: the process for SQL does not start: exit code 1"):
            run_sql(database, "select 1")
    assert run_sql(database, "select 1").rows == [(1,)]
