"""Phase 2 goes on after any interruption, and ends in the bits of the run that was never interrupted."""

import copy
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_memory import MEMORY, ROUTER, learn, memorize, memory_model, settings, tuner

from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone
from mome.train import experts as memory
from mome.train.experts import MemoryRun

SHORT = {"epochs": 6, "repairs": 1, "group_size": 5}
KINDS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adafactor, augmented": {
        "optimizer": "adafactor", "learning_rate": 2e-2, "wordings": 2, "state_noise": 0.2, "prompt_dropout": 0.3,
    },
    "bf16": {"model": {"dtype": "bfloat16"}, "wordings": 2, "state_noise": 0.2},
    "no snap": {"model": {"snap": False, "temperature": 0.5}, "wordings": 2, "prompt_dropout": 0.3},
}  # fmt: skip
ROUTED: dict[str, Any] = {}  # models after phase 1, by the name of the kind
KILLED = """\
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from tiny_memory import memorize, memory_model, settings
from mome.lm.loading import load_backbone
from mome.facts.readers import read_facts

torch.set_num_threads(1)
backbone, facts = load_backbone(sys.argv[2], "cpu"), read_facts(sys.argv[3])
folder, delays, longest, kills = Path(sys.argv[4]), random.Random(int(sys.argv[5])), 0.4, 0

def run():
    options = settings(epochs=6, repairs=1, group_size=5)
    memorize(memory_model(backbone), backbone, facts, options, checkpoint=folder, every_seconds=0)

while True:
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    if kills < 5:
        time.sleep(delays.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGKILL:
        kills += 1
    elif code == 0 and not kills:
        # a machine so fast that the run was over before the first kill: once more from nothing, sooner
        shutil.rmtree(folder)
        longest /= 2
    else:
        break
print(kills, code)
"""


class Stopped(KeyboardInterrupt):
    """Ctrl-C in a test."""


def fresh(backbone: Backbone, facts: list[Fact], kind: str) -> tuple[Any, Any]:
    """A copy of a model after phase 1, which each process trains once, and the settings of phase 2."""
    changes = dict(KINDS[kind])
    different = changes.pop("model", {})
    if kind not in ROUTED:
        ROUTED[kind] = memory_model(backbone, **different)
        learn(ROUTED[kind], backbone, facts)
    return copy.deepcopy(ROUTED[kind]), settings(**{**SHORT, **changes})


def stop_at(call: int, patched: pytest.MonkeyPatch, method: str = "step") -> None:
    """Interrupt the run at the call'th step from now on, half way through: the rows were updated already."""
    calls, original = [], getattr(memory.ExpertTrainer, method)

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        found = original(*arguments)
        if len(calls) == call:
            raise Stopped
        return found

    patched.setattr(memory.ExpertTrainer, method, stopping)


def assert_same(found: tuple[Any, MemoryRun], expected: tuple[Any, MemoryRun]) -> None:
    """Rows, their counters and optimizer state, losses and everything reported agree in every bit."""
    banks = [tuner(model).bank.members() for model, _ in (found, expected)]
    assert banks[0].keys() == banks[1].keys()
    assert len(banks[0]["ids"]) > 0
    assert all(torch.equal(banks[0][name], banks[1][name]) for name in banks[0])
    one, other = found[1], expected[1]
    assert one.losses.tobytes() == other.losses.tobytes()
    assert one.worst.tobytes() == other.worst.tobytes()
    assert (one.failed, one.visits, one.rounds) == (other.failed, other.visits, other.rounds)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_in_the_same_bits(
    kind: str, random_backbone: Backbone, facts: list[Fact], tmp_path: Path
) -> None:
    model, options = fresh(random_backbone, facts, kind)
    expected = model, memorize(model, random_backbone, facts, options)
    for call in (7, 3, 4):
        model, options = fresh(random_backbone, facts, kind)
        with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
            stop_at(call, patched)
            memorize(model, random_backbone, facts, options, checkpoint=tmp_path, every_seconds=0.0)
    model, options = fresh(random_backbone, facts, kind)
    found = model, memorize(model, random_backbone, facts, options, checkpoint=tmp_path, every_seconds=0.0)
    assert_same(found, expected)


def test_a_run_interrupted_in_its_check_ends_in_the_same_bits(
    random_backbone: Backbone, facts: list[Fact], tmp_path: Path
) -> None:
    def crowded() -> Any:
        return memory_model(random_backbone, num_experts=64, top_k=32)

    options = settings(target_loss=0.4, repair_loss=0.65, group_size=1)
    model = crowded()
    expected = model, memorize(model, random_backbone, facts[:3], options)
    assert expected[1].rounds > 1
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
            stop_at(1, patched, "check")
            memorize(crowded(), random_backbone, facts[:3], options, checkpoint=tmp_path, every_seconds=0.0)
    model = crowded()
    assert_same((model, memorize(model, random_backbone, facts[:3], options, checkpoint=tmp_path)), expected)


@pytest.mark.parametrize("stored", [False, True])
def test_rows_written_after_the_last_checkpoint_do_not_count(
    stored: bool, random_backbone: Backbone, facts: list[Fact], tmp_path: Path
) -> None:
    """Whether the interrupted model is used again, or its bank's files: both hold steps no checkpoint knows of."""
    changes = {"storage": str(tmp_path / "bank")} if stored else {}
    options = settings(**SHORT)
    model = memory_model(random_backbone)
    expected = model, memorize(model, random_backbone, facts, options)
    model = memory_model(random_backbone, **changes)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        stop_at(5, patched)
        memorize(model, random_backbone, facts, options, checkpoint=tmp_path / "run")
    assert len(tuner(model).bank.touched()) > 0
    again = memory_model(random_backbone, **changes) if stored else model
    assert_same((again, memorize(again, random_backbone, facts, options, checkpoint=tmp_path / "run")), expected)


def test_a_killed_run_ends_in_the_same_bits(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact], tmp_path: Path, warm_python: list[str]
) -> None:
    model = memory_model(random_backbone)
    expected = model, memorize(model, random_backbone, facts, settings(**SHORT), checkpoint=tmp_path / "whole")
    write_jsonl(facts, tmp_path / "facts.jsonl")
    seed = int.from_bytes(os.urandom(2), "big")
    arguments = [
        Path(__file__).parents[1] / "helpers",
        backbone_folder,
        tmp_path / "facts.jsonl",
        tmp_path / "run",
        seed,
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*warm_python, "-c", KILLED, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    kills, code = done.stdout.split()
    assert int(kills) >= 1 and int(code) == 0, f"seed {seed}: {done.stdout} {done.stderr}"
    models = [memory_model(random_backbone), memory_model(random_backbone)]
    runs = [
        memorize(model, random_backbone, facts, settings(**SHORT), checkpoint=tmp_path / name)
        for model, name in zip(models, ("run", "whole"), strict=True)
    ]
    assert_same((models[0], runs[0]), (models[1], runs[1]))
    assert runs[1].losses.tobytes() == expected[1].losses.tobytes()


def test_a_finished_run_is_taken_without_training(
    random_backbone: Backbone, facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = memory_model(random_backbone)
    first = memorize(model, random_backbone, facts, checkpoint=tmp_path)
    rows = tuner(model).bank.members(optimizer=False)

    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished run must not train")

    for method in ("epoch", "check", "save"):
        monkeypatch.setattr(memory.ExpertTrainer, method, refuse)
    # a fresh model, and the one that was trained, whose optimizer's tables are not part of a finished run
    for taken_by in (memory_model(random_backbone), model):
        taken = memorize(taken_by, random_backbone, facts, checkpoint=tmp_path)
        found = tuner(taken_by).bank.members(optimizer=False)
        assert all(torch.equal(found[name], rows[name]) for name in rows)
        assert taken.losses.tobytes() == first.losses.tobytes()
        assert taken.worst.tobytes() == first.worst.tobytes()
        assert (taken.seconds, taken.visits, taken.rounds) == (first.seconds, first.visits, first.rounds)


Change = Callable[[list[Fact]], list[Fact]]


@pytest.mark.parametrize(
    ("options", "model", "labels", "change", "named"),
    [
        ({"learning_rate": 1e-3}, {}, {}, None, "memory"),
        ({"target_loss": 0.1}, {}, {}, None, "memory"),
        ({}, {"init_scale": 16.0}, {}, None, "bank"),
        ({}, {"dtype": "bfloat16"}, {}, None, "bank"),
        ({}, {}, {"backbone": "other"}, None, "backbone"),
        ({}, {}, {}, lambda facts: facts[::-1], "facts"),
        ({}, {}, {}, lambda facts: [replace(facts[0], answer="Cusco"), *facts[1:]], "facts"),
        ({}, {}, {}, lambda facts: [replace(facts[0], phrasings=("Peru's capital?",)), *facts[1:]], "facts"),
        ({"seed": 1}, {"seed": 1}, {"backbone": "other"}, lambda facts: facts[1:], "backbone, bank, facts, memory"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    options: dict[str, Any],
    model: dict[str, Any],
    labels: dict[str, Any],
    change: Change | None,
    named: str,
    random_backbone: Backbone,
    facts: list[Fact],
    tmp_path: Path,
) -> None:
    base = {"epochs": 1, "repairs": 0, "wordings": 2}
    write = settings(**base)
    memorize(
        memory_model(random_backbone), random_backbone, facts, write, checkpoint=tmp_path, labels={"backbone": "a"}
    )
    chosen, other = change(facts) if change else facts, memory_model(random_backbone, **model)
    with pytest.raises(CheckpointError, match=rf"other settings \({named}\); delete it"):
        memorize(
            other,
            random_backbone,
            chosen,
            settings(**{**base, **options}),
            checkpoint=tmp_path,
            labels={"backbone": "a", **labels},
        )
    assert len(tuner(other).bank.touched()) == 0


@pytest.mark.parametrize("change", ["router", "weights"])
def test_a_checkpoint_of_another_router_is_refused(
    change: str, random_backbone: Backbone, facts: list[Fact], tmp_path: Path
) -> None:
    options = settings(epochs=1, repairs=0)
    memorize(memory_model(random_backbone), random_backbone, facts, options, checkpoint=tmp_path)
    other = memory_model(random_backbone, **({"scale": 0.5} if change == "weights" else {}))
    if change == "router":
        learn(other, random_backbone, facts, steps=ROUTER.steps)
    with pytest.raises(CheckpointError, match="the router chooses other experts"):
        memorize(other, random_backbone, facts, options, checkpoint=tmp_path)


@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_goes_on(
    finished: bool, random_backbone: Backbone, facts: list[Fact], tmp_path: Path
) -> None:
    options = settings(**SHORT)
    model = memory_model(random_backbone)
    expected = model, memorize(model, random_backbone, facts, options)
    with pytest.MonkeyPatch.context() as patched:
        stop_at(1 if finished else 4, patched, "check" if finished else "epoch")
        with pytest.raises(Stopped):
            memorize(
                memory_model(random_backbone), random_backbone, facts, options, checkpoint=tmp_path, every_seconds=0.0
            )
    if finished:
        memorize(memory_model(random_backbone), random_backbone, facts, options, checkpoint=tmp_path, every_seconds=0.0)
    newest = sorted(tmp_path.glob("step-*"))[-1] / "bank.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    model = memory_model(random_backbone)
    with pytest.warns(UserWarning, match=r"bank\.safetensors: damaged.*looking for an older checkpoint"):
        found = model, memorize(model, random_backbone, facts, options, checkpoint=tmp_path)
    assert_same(found, expected)


def test_the_folder_keeps_two_checkpoints(random_backbone: Backbone, facts: list[Fact], tmp_path: Path) -> None:
    memorize(memory_model(random_backbone), random_backbone, facts, MEMORY, checkpoint=tmp_path, every_seconds=0.0)
    assert len(list(tmp_path.iterdir())) == 2
