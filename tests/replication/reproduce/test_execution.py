"""A notebook's run ends: with its result, with the cell's own error, or with what hung, where, and for how long."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from mome.replication.notebook.results import PROFILES
from mome.replication.reproduce.execution import Execution, HangError, TimeLimitError, execute
from mome.replication.reproduce.kernel_client import HearingChannel
from mome.replication.reproduce.limits import LIMITS, LimitError, Limits, limits_of
from mome.replication.reproduce.runner import KERNEL

COUNT = "import os, pathlib\nwith pathlib.Path('kernels').open('a') as file:\n    print(os.getpid(), file=file)"
SLEEP = "import time; time.sleep(999)"
# A third of the time it computes, which is work enough to be told from a kernel that waits.
COMPUTE = "import time\nwhile True: sum(range(300_000)); time.sleep(0.02)"
# An Output widget that captures: nbclient answers each of the outputs on the channel on which it awaits the reply.
CAPTURE = """\
import ipywidgets
captured = ipywidgets.Output()
with captured:
    for number in range(20):
        display(number)
captured"""
AMPLE = Limits(cell=200, notebook=400)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Execution]:
    """Executes a notebook of these cells; the file `kernels` gets a line from each kernel that starts."""

    def run(*code: str, limits: Limits = AMPLE, kernel: str = KERNEL) -> Execution:
        cells = [new_markdown_cell("# Prose"), new_code_cell(COUNT), *map(new_code_cell, code)]
        path = tmp_path / "cells.ipynb"
        named = {"name": KERNEL, "display_name": "Python", "language": "python"}
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": named}), path)
        return execute(path, tmp_path / "executed.ipynb", {}, tmp_path, limits, kernel=kernel)

    return run


def kernels(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "kernels").read_text("utf-8").split()]


def assert_ended(pids: list[int]) -> None:
    end = time.monotonic() + 30
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.05)


# --- hearing -------------------------------------------------------------------------------------------------------


async def hears(channel_class: type) -> bool:
    """A reply arrives while the client is at work, and the client sends something before it looks for the reply."""
    with (
        zmq.Context() as plain,
        zmq.asyncio.Context() as context,
        plain.socket(zmq.ROUTER) as kernel,
        context.socket(zmq.DEALER) as socket,
    ):
        kernel.linger = socket.linger = 0
        kernel.rcvtimeo = 30_000
        socket.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
        channel = channel_class(socket, Session())
        channel.send(channel.session.msg("execute_request"))
        request = await asyncio.to_thread(kernel.recv_multipart)
        reply = asyncio.ensure_future(channel.get_msg(timeout=None))
        await asyncio.sleep(0.1)
        kernel.send_multipart(request)
        time.sleep(0.5)
        channel.send(channel.session.msg("comm_msg"))
        done, _ = await asyncio.wait([reply], timeout=10)
        reply.cancel()
        return bool(done)


def test_a_reply_that_arrives_before_a_message_is_sent_is_heard() -> None:
    """The case in which jupyter_client's own channel does not notice the reply, and papermill waits for ever."""
    assert asyncio.run(hears(HearingChannel))


@pytest.mark.slow
def test_captured_outputs_do_not_stop_a_run(run: Callable[..., Execution], warm_kernel: str) -> None:
    """Plain papermill stops at one of these cells in about every second run on a busy machine."""
    assert [run(*[CAPTURE] * 8, kernel=warm_kernel).tries for _ in range(5)] == [1] * 5


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fresh_kernel_is_tried_once(run: Callable[..., Execution], tmp_path: Path) -> None:
    hang_once = f"if len(open('kernels').readlines()) == 1:\n    {SLEEP}"
    done = run(hang_once, "'reached'", limits=Limits(cell=6, notebook=300))
    assert done.tries == 2
    assert done.notebook.cells[-1].outputs[0]["data"]["text/plain"] == "'reached'"
    assert len(set(kernels(tmp_path))) == 2
    assert_ended(kernels(tmp_path))


@pytest.mark.slow
def test_a_second_hang_is_a_failure_that_names_notebook_cell_and_seconds(
    run: Callable[..., Execution], tmp_path: Path
) -> None:
    with pytest.raises(HangError) as caught:
        run("1", SLEEP, limits=Limits(cell=5, notebook=300))
    for part in ("executed.ipynb: cell 4 ('import time; time", "after 5 s", "tries: 2", "--cell-seconds"):
        assert part in str(caught.value)
    assert len(kernels(tmp_path)) == 2
    assert_ended(kernels(tmp_path))


@pytest.mark.slow
def test_a_cell_that_computes_is_ended_and_not_tried_again(run: Callable[..., Execution], tmp_path: Path) -> None:
    with pytest.raises(TimeLimitError, match=r"cell 3 .*still computing after 8 s.*--cell-seconds") as caught:
        run(COMPUTE, limits=Limits(cell=8, notebook=300))
    assert not isinstance(caught.value, HangError)
    assert len(kernels(tmp_path)) == 1
    assert_ended(kernels(tmp_path))


@pytest.mark.slow
def test_work_of_a_child_is_work(run: Callable[..., Execution]) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPUTE!r}])"
    with pytest.raises(TimeLimitError, match="still computing"):
        run(child, limits=Limits(cell=8, notebook=300))


@pytest.mark.slow
def test_many_short_cells_end_at_the_limit_of_the_notebook(run: Callable[..., Execution], warm_kernel: str) -> None:
    with pytest.raises(HangError, match=r"the limit of a notebook.*--notebook-seconds"):
        run(*["import time; time.sleep(2)"] * 9, limits=Limits(cell=6, notebook=6), kernel=warm_kernel)


@pytest.mark.parametrize(
    ("code", "error"), [("1 / 0", PapermillExecutionError), ("import os; os._exit(3)", DeadKernelError)]
)
def test_an_error_of_a_cell_is_not_tried_again(
    code: str, error: type[Exception], run: Callable[..., Execution], tmp_path: Path
) -> None:
    with pytest.raises(error):
        run(code)
    assert len(kernels(tmp_path)) == 1


def test_a_kernel_that_does_not_start_is_named(
    run: Callable[..., Execution], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}', "utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(HangError, match=r"executed.ipynb: the kernel did not start .*tries: 2"):
        run("1")


def test_no_process_of_a_kernel_outlives_it(run: Callable[..., Execution], tmp_path: Path) -> None:
    """Neither a child in the kernel's process group nor one that left it."""
    children = """\
import subprocess, sys
with open('kernels', 'a') as file:
    for alone in (True, False):
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(999)'], start_new_session=alone)
        print(child.pid, file=file)
"""
    run(children)
    assert len(kernels(tmp_path)) == 3
    assert_ended(kernels(tmp_path))


def test_every_profile_has_limits_and_options_take_their_place() -> None:
    assert LIMITS.keys() == set(PROFILES)
    assert all(limits.cell <= limits.notebook for limits in LIMITS.values())
    assert limits_of("smoke") == LIMITS["smoke"]
    assert limits_of("smoke", cell=10) == Limits(10, LIMITS["smoke"].notebook)
    assert limits_of("smoke", cell=5000) == Limits(5000, 5000)
    assert limits_of("smoke", notebook=10) == Limits(10, 10)
    assert limits_of("smoke", 7, 9) == Limits(7, 9)
    with pytest.raises(LimitError, match="--cell-seconds 10 is more than --notebook-seconds 9"):
        limits_of("smoke", 10, 9)
