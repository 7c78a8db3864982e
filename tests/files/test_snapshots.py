"""Snapshots: exact round trips, and no crash, kill or full disk that leaves anything but the old or the new one."""

import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest
import torch
from transformers.optimization import Adafactor

from mome.files.sealed import CheckpointError
from mome.files.snapshots import load_snapshot, optimizer_snapshot, restore_optimizer, save_snapshot

CONFIG = {"lr": 0.1, "name": "run"}
OPTIMIZERS: dict[str, Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]] = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, betas=(0.9, 0.95)),
    "Adafactor": lambda parameters: Adafactor(parameters, lr=1e-2, scale_parameter=False, relative_step=False),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "snapshot.safetensors"


def save_number(path: Path, number: int, size: int = 1_000) -> None:
    save_snapshot(path, {"values": torch.full((size,), float(number))}, {"config": CONFIG, "number": number})


def load_number(path: Path) -> int:
    """The number of a snapshot, once its tensors and state are seen to belong together."""
    found = load_snapshot(path, CONFIG)
    assert found is not None
    tensors, state = found
    assert tensors["values"].unique().tolist() == [state["number"]]
    return state["number"]


def make_parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (4,), (2, 3, 4))]


def take_steps(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_every_kind_of_tensor_comes_back_unchanged(path: Path) -> None:
    tensors = {
        "a/f32": torch.tensor([0.1, -0.0, float("inf"), float("nan"), 1e-45]),
        "bf16": torch.randn(3, 4).to(torch.bfloat16),
        "transposed": torch.arange(6).view(2, 3).T,
        "scalar": torch.tensor(7.5),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }
    state = {"config": CONFIG, "numbers": [1, 2.5, None, "ü"], "seconds": 0.1 + 0.2}
    save_snapshot(path, tensors, state)
    found = load_snapshot(path, CONFIG)
    assert found is not None
    assert found[1] == state
    assert found[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[0][name].dtype == tensor.dtype
        assert found[0][name].shape == tensor.shape
        bits = [value.contiguous().reshape(-1).view(torch.uint8) for value in (found[0][name], tensor)]
        assert torch.equal(*bits), name
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_bit_for_bit(name: str, path: Path) -> None:
    parameters = make_parameters()
    optimizer = OPTIMIZERS[name](parameters)
    take_steps(parameters, optimizer, seed=1)
    tensors, numbers = optimizer_snapshot(optimizer)
    weights = {f"model/{index}": parameter for index, parameter in enumerate(parameters)}
    save_snapshot(path, tensors | weights, {"config": CONFIG, "optimizer": numbers})
    take_steps(parameters, optimizer, seed=2)

    found = load_snapshot(path, CONFIG)
    assert found is not None
    restored = [torch.nn.Parameter(found[0][f"model/{index}"]) for index in range(len(parameters))]
    other = OPTIMIZERS[name](restored)
    restore_optimizer(other, found[0], found[1]["optimizer"])
    take_steps(restored, other, seed=2)
    assert all(torch.equal(one, two) for one, two in zip(parameters, restored, strict=True))
    for left, right in zip(optimizer_snapshot(optimizer), optimizer_snapshot(other), strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(torch.as_tensor(left[key]), torch.as_tensor(right[key])) for key in left)


def test_a_fresh_optimizer_has_nothing_to_restore() -> None:
    parameters = make_parameters()
    optimizer = torch.optim.AdamW(parameters)
    assert optimizer_snapshot(optimizer) == ({}, {})
    restore_optimizer(optimizer, {"model/0": parameters[0]}, {})
    assert optimizer_snapshot(optimizer) == ({}, {})


def test_no_file_is_no_snapshot(path: Path) -> None:
    assert load_snapshot(path, CONFIG) is None


def test_a_truncated_file_is_refused_by_name(path: Path) -> None:
    save_number(path, 1)
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 60, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError) as caught:
            load_snapshot(path, CONFIG)
        assert str(path) in str(caught.value)


def test_any_broken_byte_of_the_header_is_refused_by_name(path: Path) -> None:
    """Every byte of the length and of the JSON text inverted, one at a time: no inverted ASCII is valid UTF-8."""
    save_number(path, 1)
    content = path.read_bytes()
    stop = 8 + int.from_bytes(content[:8], "little")
    for place in range(stop):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with pytest.raises(CheckpointError) as caught:
            load_snapshot(path, CONFIG)
        assert str(path) in str(caught.value), place


@pytest.mark.parametrize("state", [{}, {"number": 1}, ["config"], None], ids=str)
def test_a_snapshot_without_settings_is_refused_by_name(state: object, path: Path) -> None:
    save_snapshot(path, {"values": torch.ones(1)}, state)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="not a readable snapshot") as caught:
        load_snapshot(path, CONFIG)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "changed"),
    [({**CONFIG, "lr": 0.2}, "lr"), ({"lr": 0.1}, "name"), ({**CONFIG, "rank": 4}, "rank")],
)
def test_other_settings_are_refused_by_name(asked: dict, changed: str, path: Path) -> None:
    save_number(path, 1)
    with pytest.raises(CheckpointError, match=rf"written under other settings \({changed}\)") as caught:
        load_snapshot(path, asked)
    assert str(path) in str(caught.value)


def save_for_ever(path: Path, values: Sequence[torch.Tensor]) -> None:
    for number in cycle(range(len(values))):
        save_snapshot(path, {"values": values[number]}, {"config": CONFIG, "number": number})


def test_kill_at_any_moment_leaves_a_whole_snapshot(path: Path) -> None:
    """The child computes nothing with torch, whose threads do not survive a fork."""
    save_number(path, 0, size=100_000)
    values = [torch.full((100_000,), float(number)) for number in range(30)]
    generator = random.Random(0)
    seen = set()
    for _ in range(10):
        child = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(path, values))
        child.start()
        time.sleep(generator.uniform(0.02, 0.12))
        child.kill()
        child.join(timeout=60)
        assert child.exitcode == -signal.SIGKILL
        seen.add(load_number(path))
    assert len(seen) > 1, "no child lived long enough to save"


def test_a_failing_rename_keeps_the_old_snapshot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_number(path, 1)

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        save_number(path, 2)
    assert load_number(path) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_keeps_the_old_snapshot(path: Path) -> None:
    save_number(path, 1)
    with files_of_at_most(100_000), pytest.raises(OSError):
        save_number(path, 2, size=1_000_000)
    assert load_number(path) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]
