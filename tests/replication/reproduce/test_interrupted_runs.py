"""Runs that are interrupted, killed, or meet another one: what is left is whole, and the next run goes on."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from small_notebooks import PARAMETERS, STEM, WRITE, made_up_project, notebook, reproduce, statuses, warm_project

from mome.replication.reproduce.plans import finished, make_plans


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose kernels are those of a user, which end with the run that started them."""
    return made_up_project(tmp_path, monkeypatch)


@pytest.fixture
def warm_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: list[str]) -> Path:
    """The same with kernels that have imported the package, where nothing ends them."""
    return warm_project(tmp_path, monkeypatch, warm_python)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupt_stops_the_kernels_and_keeps_finished_runs(jobs: str, root: Path, warm_python: list[str]) -> None:
    notebook()
    wait = "import os, pathlib; pathlib.Path(f'{STEM}.pid').write_text(str(os.getpid()))"
    for stem in ("02_waits", "03_waits", "04_waits"):
        notebook(stem, [wait, "import time; time.sleep(99)"])
    command = [*warm_python, "-c", "from mome.cli import app; app()", "reproduce", "--jobs", jobs]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: len(kernels(root)) == int(jobs) or started.poll() is not None)
    started.send_signal(signal.SIGINT)
    output, _ = started.communicate(timeout=120)
    assert started.returncode == 130, output
    assert "interrupted" in output
    assert "ran" in output.split()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in kernels(root)))
    assert [path.name for path in (root / "runs" / "tiny").glob("*.stamp.json")] == [f"{STEM}.stamp.json"]
    assert not (root / "runs" / "tiny" / "04_waits.ipynb").exists()


@pytest.mark.slow
def test_a_kernel_that_hangs_is_replaced_once_and_a_second_one_is_named(root: Path) -> None:
    """The third notebook computes: the limit ends it, and it is not tried again."""
    count = "import pathlib; tries = pathlib.Path(f'{STEM}.tries'); tries.open('a').write('x')"
    notebook(code=[count, "import time; time.sleep(99 * (tries.read_text() == 'x'))", WRITE])
    notebook("02_hangs", [count, "import time; time.sleep(99)", WRITE])
    notebook("03_computes", [count, "import time\nwhile True: sum(range(300_000)); time.sleep(0.02)", WRITE])
    done = reproduce("--cell-seconds", "12", "--jobs", "3")
    assert done.exit_code == 1, done.output
    assert "ran (try 2: the kernel hung)" in done.output
    assert "02_hangs.ipynb: cell 6 ('import time; time.sleep(99)') had no reply after 12 s" in done.output
    assert "03_computes.ipynb: cell 6 ('import time') was still computing after 12 s" in done.output
    tries = {path.stem: path.read_text() for path in (root / "notebooks").glob("*.tries")}
    assert tries == {STEM: "xx", "02_hangs": "xx", "03_computes": "x"}


@pytest.mark.parametrize("option", [("--cell-seconds", "0"), ("--notebook-seconds", "nan"), ("--cell-seconds", "1.5")])
def test_limits_out_of_range_are_refused(option: tuple[str, str], warm_root: Path) -> None:
    notebook()
    assert reproduce(*option).exit_code == 2
    contradiction = reproduce("--cell-seconds", "9", "--notebook-seconds", "5")
    assert contradiction.exit_code == 2
    assert "--cell-seconds 9 is more than --notebook-seconds 5" in contradiction.output
    assert not (warm_root / "runs").exists()


def kernels(root: Path) -> list[int]:
    return [int(text) for path in (root / "notebooks").glob("*.pid") if (text := path.read_text("utf-8"))]


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_one_run_at_a_time_in_a_work_folder_and_profile(warm_root: Path) -> None:
    notebook()
    (warm_root / "runs" / "tiny").mkdir(parents=True)
    with FileLock(warm_root / "runs" / "tiny" / ".lock"):
        done = reproduce()
        assert done.exit_code == 2
        assert done.output.startswith(
            f"error: {warm_root / 'runs' / 'tiny'}: another `mome reproduce` is at work there"
        )
        assert not (warm_root / "runs" / "tiny" / f"{STEM}.ipynb").exists()
        assert statuses(reproduce("--profile", "smoke")) == ["ran"]
    assert statuses(reproduce()) == ["ran"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_run_leaves_whole_files_and_no_kernel_and_the_next_goes_on(
    jobs: str, root: Path, warm_python: list[str]
) -> None:
    notebook()
    wait = "import os, pathlib; pathlib.Path(f'{STEM}.pid').write_text(str(os.getpid()))"
    slow = "import time; time.sleep(0 if quick else 99)"
    for stem in ("02_waits", "03_waits"):
        notebook(stem, [wait, slow, WRITE], PARAMETERS + "quick = False\n")
    command = [*warm_python, "-c", "from mome.cli import app; app()", "reproduce", "--jobs", jobs]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(kernels(root)) == int(jobs) or started.poll() is not None)
    started.kill()
    assert started.wait(timeout=30) == -signal.SIGKILL
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in kernels(root)))
    assert [path.name for path in (root / "runs" / "tiny").glob("*.stamp.json")] == [f"{STEM}.stamp.json"]
    assert [path.name for path in (root / "runs" / "tiny" / "results").iterdir()] == [f"{STEM}.json"]
    assert statuses(reproduce("--only", STEM, "--jobs", "1")) == ["skipped"]
    assert statuses(reproduce("--only", "02_waits", "-p", "{quick: true}")) == ["ran"]


def test_a_damaged_stamp_counts_as_none(warm_root: Path) -> None:
    notebook()
    assert statuses(reproduce()) == ["ran"]
    for text in ("", "{", '{"inputs": "x"}', "[]"):
        (warm_root / "runs" / "tiny" / f"{STEM}.stamp.json").write_text(text, "utf-8")
        assert not finished(make_plans("tiny", [], {})[0])
    assert statuses(reproduce()) == ["ran"]


def test_a_relative_work_folder_is_the_same_for_the_kernels(warm_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook()
    monkeypatch.chdir(warm_root)
    monkeypatch.setenv("MOME_HOME", "away")
    assert statuses(reproduce()) == ["ran"]
    assert (warm_root / "away" / "tiny" / "results" / f"{STEM}.json").is_file()
    assert os.environ["MOME_HOME"] == "away" and not (warm_root / "runs").exists()
