"""Memory tuning: it learns, touches the adapter only, repeats bit for bit, and goes on after any interruption."""

import copy
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from learned import Learned

from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.files.sealed import CheckpointError
from mome.lm.encoding import encode_question
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.train import tuning
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import TuningRun, digest, tune

SETTINGS = TuningSettings(epochs=12, batch_size=3, learning_rate=5e-3)
EVERY = 5  # epochs from one snapshot to the next, in place of 10: half as many epochs have as many snapshots
KILLED = """\
import os, signal, sys
from pathlib import Path
import torch
from mome.train import tuning
from mome.lm.loading import load_backbone
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.facts.readers import read_facts

class Bar(list):
    def __iter__(self):
        for epoch in super().__iter__():
            if epoch == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            yield epoch

    def set_postfix(self, **numbers):
        pass

torch.set_num_threads(1)
tuning.tqdm = lambda epochs, **options: Bar(epochs)
tuning.SNAPSHOT_EPOCHS = int(sys.argv[5])
backbone = load_backbone(sys.argv[1], "cpu")
model = attach_lora(backbone, LoraSettings(rank=4), seed=0)
settings = TuningSettings.model_validate_json(sys.argv[4])
tuning.tune(model, backbone.tokenizer, read_facts(sys.argv[2]), settings, Path(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def more_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SNAPSHOT_EPOCHS", EVERY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuning.safetensors"


def adapted(backbone: Backbone) -> Any:
    """A fresh rank-4 adapter on a copy of the backbone."""
    return attach_lora(
        Backbone("copy", copy.deepcopy(backbone.model), backbone.tokenizer), LoraSettings(rank=4), seed=0
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def assert_same(one: tuple[Any, TuningRun], other: tuple[Any, TuningRun]) -> None:
    """Weights and losses are equal bit for bit."""
    left, right = weights(one[0]), weights(other[0])
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert one[1].losses.tobytes() == other[1].losses.tobytes()


@pytest.fixture(scope="module")
def uninterrupted(random_backbone: Backbone, facts: list[Fact]) -> tuple[Any, TuningRun]:
    model = adapted(random_backbone)
    return model, tune(model, random_backbone.tokenizer, facts, SETTINGS)


def test_it_learns_every_fact(learned: Learned, random_backbone: Backbone, facts: list[Fact]) -> None:
    run = learned.run
    assert run.losses.shape == (100, len(facts))
    assert run.losses.dtype == numpy.float32
    assert run.curve[0] > 2
    assert run.curve[-1] < 0.02
    assert run.losses[-1].max() < 0.05
    assert exact(learned.model, random_backbone.tokenizer, facts) == [True] * len(facts)
    assert not learned.model.training


def test_frozen_parameters_stay_as_they_were(learned: Learned) -> None:
    frozen = {name: value for name, value in learned.model.named_parameters() if not value.requires_grad}
    assert frozen.keys() == learned.before.keys()
    assert all(torch.equal(value, learned.before[name]) for name, value in frozen.items())


def test_the_curve_and_the_epochs_to_a_loss() -> None:
    run = TuningRun(numpy.array([[4.0, 2.0], [1.0, 0.0], [0.25, 0.25], [1.0, 1.0]], dtype=numpy.float32), 1.0)
    assert run.curve.tolist() == [3.0, 0.5, 0.25, 1.0]
    assert [run.epochs_to(loss) for loss in (5, 0.5, 0.3, 0.1)] == [1, 2, 3, None]


@pytest.mark.usefixtures("full_precision")
def test_the_first_epoch_records_the_losses_before_any_update(backbone: Backbone, facts: list[Fact]) -> None:
    """One batch holds all facts, so each recorded loss is that of the untouched model."""
    double = copy.deepcopy(backbone.model).double()
    expected = []
    for fact in facts:
        row = encode_question(backbone.tokenizer, fact.question, fact.answer)
        chances = double(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(dim=1)
        places = range(len(row.ids) - row.answer_tokens, len(row.ids))
        expected.append(-sum(chances[place - 1, row.ids[place]].item() for place in places) / row.answer_tokens)
    settings = TuningSettings(epochs=2, batch_size=len(facts), learning_rate=1e-2)
    run = tune(attach_lora(backbone, LoraSettings(rank=4), seed=0), backbone.tokenizer, facts, settings)
    assert run.losses[0] == pytest.approx(expected, abs=1e-4)
    assert run.losses[1] != pytest.approx(expected, abs=1e-2)


def test_same_seed_same_bits(
    uninterrupted: tuple[Any, TuningRun], random_backbone: Backbone, facts: list[Fact]
) -> None:
    model = adapted(random_backbone)
    assert_same((model, tune(model, random_backbone.tokenizer, facts, SETTINGS)), uninterrupted)


def test_another_seed_takes_another_order(
    uninterrupted: tuple[Any, TuningRun], random_backbone: Backbone, facts: list[Fact]
) -> None:
    settings = SETTINGS.model_copy(update={"seed": 1, "epochs": 1})
    run = tune(adapted(random_backbone), random_backbone.tokenizer, facts, settings)
    assert run.losses[0].tolist() != uninterrupted[1].losses[0].tolist()


class Interrupting:
    """A progress bar that is interrupted when a given epoch (from 0) is about to start."""

    stop = 0

    def __init__(self, epochs: Iterable[int], **options: object) -> None:
        self.epochs = epochs

    def __iter__(self) -> Iterator[int]:
        for epoch in self.epochs:
            if epoch == self.stop:
                raise KeyboardInterrupt
            yield epoch

    def set_postfix(self, **numbers: str) -> None:
        pass


def interrupted(backbone: Backbone, facts: list[Fact], path: Path, stop: int) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tuning, "tqdm", type("Bar", (Interrupting,), {"stop": stop}))
        tune(adapted(backbone), backbone.tokenizer, facts, SETTINGS, path)


@pytest.mark.parametrize("stops", [(0,), (2,), (5,), (8,), (6, 10, 11)], ids=str)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    stops: tuple[int, ...],
    uninterrupted: tuple[Any, TuningRun],
    random_backbone: Backbone,
    facts: list[Fact],
    path: Path,
) -> None:
    for stop in stops:
        interrupted(random_backbone, facts, path, stop)
    assert path.exists() == (stops[-1] >= EVERY)
    model = adapted(random_backbone)
    assert_same((model, tune(model, random_backbone.tokenizer, facts, SETTINGS, path)), uninterrupted)


def test_a_killed_process_ends_like_an_uninterrupted_one(
    uninterrupted: tuple[Any, TuningRun],
    random_backbone: Backbone,
    backbone_folder: Path,
    facts: list[Fact],
    path: Path,
    tmp_path: Path,
    warm_python: list[str],
) -> None:
    write_jsonl(facts, tmp_path / "facts.jsonl")
    arguments = (str(backbone_folder), str(tmp_path / "facts.jsonl"), str(path), SETTINGS.model_dump_json(), str(EVERY))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*warm_python, "-c", KILLED, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.exists()
    model = adapted(random_backbone)
    assert_same((model, tune(model, random_backbone.tokenizer, facts, SETTINGS, path)), uninterrupted)


def test_a_run_tells_of_each_epoch_and_is_the_same_for_it(
    uninterrupted: tuple[Any, TuningRun], random_backbone: Backbone, facts: list[Fact]
) -> None:
    told: list[tuple[int, float]] = []
    model = adapted(random_backbone)

    def told_of(epoch: int, loss: float) -> None:
        model.eval()
        told.append((epoch, loss))

    assert_same((model, tune(model, random_backbone.tokenizer, facts, SETTINGS, on_epoch=told_of)), uninterrupted)
    assert told == [(epoch, float(loss)) for epoch, loss in enumerate(uninterrupted[1].curve, start=1)]


def test_a_finished_run_is_taken_without_training(
    uninterrupted: tuple[Any, TuningRun],
    random_backbone: Backbone,
    facts: list[Fact],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = tune(adapted(random_backbone), random_backbone.tokenizer, facts, SETTINGS, path)

    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished run must not train")

    monkeypatch.setattr(tuning, "_train_epoch", refuse)
    model = adapted(random_backbone)
    taken = tune(model, random_backbone.tokenizer, facts, SETTINGS, path)
    assert taken.seconds == first.seconds
    assert_same((model, taken), uninterrupted)


def test_a_run_stopped_by_its_loss_is_taken_without_training(
    random_backbone: Backbone, facts: list[Fact], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"stop_loss": 3.0})
    first = tune(adapted(random_backbone), random_backbone.tokenizer, facts, settings, path)
    assert len(first.losses) < settings.epochs
    assert first.curve[-1] <= 3.0 < first.curve[:-1].min()
    monkeypatch.setattr(tuning, "_train_epoch", None)
    again = tune(adapted(random_backbone), random_backbone.tokenizer, facts, settings, path)
    assert again.losses.tobytes() == first.losses.tobytes()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"settings": SETTINGS.model_copy(update={"learning_rate": 1e-3})}, "tuning"),
        ({"settings": SETTINGS.model_copy(update={"epochs": 13})}, "tuning"),
        ({"labels": {"backbone": "other"}}, "backbone"),
        ({"reverse": True}, "facts"),
    ],
)
def test_a_snapshot_of_other_settings_is_refused(
    change: dict[str, Any], name: str, random_backbone: Backbone, facts: list[Fact], path: Path
) -> None:
    interrupted(random_backbone, facts, path, EVERY)
    chosen = facts[::-1] if change.get("reverse") else facts
    model, settings = adapted(random_backbone), change.get("settings", SETTINGS)
    with pytest.raises(CheckpointError, match=rf"other settings \({name}\)"):
        tune(model, random_backbone.tokenizer, chosen, settings, path, change.get("labels"))


def test_the_digest_follows_every_field_and_the_order(facts: list[Fact]) -> None:
    assert digest(facts) == digest(list(facts))
    others = [facts[::-1], facts[:-1], [*facts[:-1], Fact(facts[-1].id, facts[-1].question, "1923")]]
    assert len({digest(facts), *(digest(other) for other in others)}) == 4


def test_a_loss_that_is_no_number_is_an_error(backbone: Backbone, facts: list[Fact], path: Path) -> None:
    model = attach_lora(backbone, LoraSettings(rank=4), seed=0)
    with torch.no_grad():
        next(iter(weights(model).values())).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="nan in epoch 1"):
        tune(model, backbone.tokenizer, facts, SETTINGS, path)
    assert not path.exists()


def test_nothing_to_tune_is_an_error(backbone: Backbone, facts: list[Fact]) -> None:
    with pytest.raises(ValueError, match="every parameter is frozen"):
        tune(backbone.model, backbone.tokenizer, facts, SETTINGS)
    with pytest.raises(ValueError, match="no facts"):
        tune(attach_lora(backbone, LoraSettings(rank=4), seed=0), backbone.tokenizer, [], SETTINGS)
