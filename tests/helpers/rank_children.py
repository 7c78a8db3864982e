"""Ranks as child processes of a test, joined over gloo as torchrun would join them, each with a time limit.

`child` is what one of them does: it memorizes as FOLDER/task.json says (`run_ranks` writes it), and rank 0 leaves the
bank's rows and the run in FOLDER.
"""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed import TCPStore

PROGRAM = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rank_children import child
child(Path(sys.argv[2]))
"""
STORES: list[TCPStore] = []  # each serves until the tests end
LIMIT = 240  # seconds for a child, on a busy machine


@dataclass
class Finished:
    """What a child left: exit code and what it printed."""

    code: int
    output: str
    errors: str


def start_ranks(count: int, command: list[str], **environment: str) -> list[subprocess.Popen[str]]:
    """`command` as `count` ranks, one thread each; this process keeps the store, as torchrun's own does."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(store)
    shared = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared |= {
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": "1",
        "MOME_RANK_SECONDS": "120",
        **environment,
    }
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen(command, env={**shared, "RANK": str(rank)}, **streams) for rank in range(count)]


def finish(children: list[subprocess.Popen[str]], first: int | None = None) -> list[Finished]:
    """Wait for all, or for the `first` and end the rest; after a time limit they are killed, and the test fails."""
    try:
        if first is not None:
            children[first].wait(LIMIT)
            for child in children:
                child.terminate()
        done = [child.communicate(timeout=LIMIT) for child in children]
    finally:
        for child in children:
            child.kill()
    return [Finished(child.wait(LIMIT), *streams) for child, streams in zip(children, done, strict=True)]


def run_ranks(python: list[str], count: int, folder: Path, backbone: Path, facts: Path, **task: Any) -> list[Finished]:
    """Memorize `facts` over `count` ranks; `python` is the command of each.

    The task may have `model` (changes to `memory_model`), `settings`, `checkpoint` (a folder), and `dies` (rank and
    number of the epoch at whose start it kills itself).
    """
    folder.mkdir(exist_ok=True)
    (folder / "task.json").write_text(json.dumps({"backbone": str(backbone), "facts": str(facts), **task}), "utf-8")
    return finish(start_ranks(count, [*python, "-c", PROGRAM, str(Path(__file__).parent), str(folder)]))


def result(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The bank's members and the run that rank 0 left in `folder`."""
    from safetensors.torch import load_file

    return load_file(folder / "rows.safetensors"), json.loads((folder / "run.json").read_text("utf-8"))


def child(folder: Path) -> None:
    """One rank's part."""
    import torch
    from safetensors.torch import save_file
    from tiny_memory import learn, memorize, memory_model, settings, tuner

    from mome.facts.readers import read_facts
    from mome.lm.loading import load_backbone
    from mome.train.ranks.group import joined
    from mome.train.ranks.trainer import RankTrainer

    torch.set_num_threads(1)
    task = json.loads((folder / "task.json").read_text("utf-8"))
    with joined() as ranks:
        assert ranks is not None
        facts, backbone = read_facts(Path(task["facts"])), load_backbone(task["backbone"], "cpu")
        model = memory_model(backbone, **task.get("model", {}))
        learn(model, backbone, facts)
        if task.get("dies", [None])[0] == ranks.rank:
            RankTrainer.epoch = dying(RankTrainer.epoch, task["dies"][1])  # type: ignore[method-assign]
        checkpoint = Path(task["checkpoint"]) if "checkpoint" in task else None
        more = {"checkpoint": checkpoint, "every_seconds": 0.0, "labels": {"ranks": ranks.size}}
        options = settings(**task.get("settings", {}))
        run = memorize(model, backbone, facts, options, trainer_of=partial(RankTrainer, ranks), **more)
        own = tuner(model).bank.touched()
        if ranks.rank:
            assert set((own % ranks.size).tolist()) <= {ranks.rank}, "rows of other owners stayed here"
            return
    save_file(tuner(model).bank.members(optimizer=False), folder / "rows.safetensors")
    fields = {"losses": run.losses.tolist(), "worst": run.worst.tolist(), "failed": run.failed}
    (folder / "run.json").write_text(json.dumps({**fields, "visits": run.visits, "rounds": run.rounds}), "utf-8")


def dying(epoch: Any, number: int) -> Any:
    """`epoch`, whose `number`th call kills the process instead."""
    calls: list[int] = []

    def counted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        epoch(*arguments)

    return counted
