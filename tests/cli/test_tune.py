"""`torchrun -m mome tune`: a killed rank ends the run with one clear error, and it goes on from the checkpoint."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.memory.loading import load_memory

LIMIT = 600  # seconds for a command, on a busy machine
# without Python, each rank's command says which Python it is
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")


def start(python: list[str], *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """A command over two ranks; `python` is the Python of each."""
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MOME_RANK_SECONDS": "300", **environment}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*TORCHRUN, *python, "-m", "mome", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, env=shared, text=True, **streams)  # type: ignore[call-overload,no-any-return]


def ranks_of(torchrun: int) -> dict[int, psutil.Process]:
    """Its processes by rank."""
    found = psutil.Process(torchrun).children()
    return {int(child.environ()["RANK"]): child for child in found if "RANK" in child.environ()}


def kill_when(path: Path, torchrun: subprocess.Popen[str], rank: int) -> None:
    """Kill a rank as soon as there is something at `path`."""
    ends = time.monotonic() + LIMIT
    while not path.exists():
        assert torchrun.poll() is None and time.monotonic() < ends
        time.sleep(0.01)
    ranks_of(torchrun.pid)[rank].kill()


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_same_command_goes_on(
    facts: list[Fact], tmp_path: Path, small_root: Path, warm_python: list[str]
) -> None:
    write_jsonl(facts, tmp_path / "facts.jsonl")
    out, home = tmp_path / "adapter", {"MOME_ROOT": str(small_root), "MOME_HOME": str(tmp_path / "home")}
    command = ("tune", tmp_path / "facts.jsonl", "--out", out, "--router-steps", 2, "--experts", 4096)
    run = start(warm_python, *command, **home)
    try:
        kill_when(out / "checkpoints" / "step-000000" / "manifest.json", run, 1)
        output, errors = run.communicate(timeout=LIMIT)
        assert run.returncode != 0 and output == ""
        told = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert len(told) == 1 and told[0].startswith("error: rank 0 waited for ")
        assert "; rank 1 does not answer any more. Start the same command again" in told[0]
        assert not (out / "adapter_config.json").exists()
        again = start(warm_python, *command, **home)
        output, errors = again.communicate(timeout=LIMIT)
    finally:
        run.kill()
    assert again.returncode == 0, errors
    assert output.startswith("8 of 8 facts recalled exactly")
    memory = load_memory(out)  # one process
    assert [memory.ask(fact.question).text for fact in facts] == [fact.answer for fact in facts]
    assert all(answer.memorized for answer in memory.ask_all([fact.question for fact in facts]))


def test_lora_is_refused_over_ranks(facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from mome.cli import app

    write_jsonl(facts, tmp_path / "facts.jsonl")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["tune", str(tmp_path / "facts.jsonl"), "--out", str(tmp_path / "adapter"), "--method", "lora"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "--method lora trains in one process, torchrun started 2" in done.output
    assert not (tmp_path / "adapter").exists()
