"""A LoRA run kept at chosen epochs."""

from __future__ import annotations

import pytest
import torch

from mome.files.sealed import CheckpointError
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.pools import random_facts
from mome.replication.experiments.stages import memorize_in_stages, stage_epochs
from mome.train.settings import LoraSettings, TuningSettings

TUNING = TuningSettings(epochs=3, learning_rate=5e-3)
LORA = LoraSettings(rank=4)


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch, one_thread):
    """A work folder of its own."""
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    return tmp_path


def adapter(backbone) -> list[torch.Tensor]:
    return [each.detach().clone() for each in backbone.model.parameters() if each.requires_grad]


def same(one, other) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_each_stage_is_the_run_that_ends_there_to_the_last_bit():
    facts = random_facts(4, 90)
    stages = memorize_in_stages("tiny-llama", facts, TUNING, LORA, [1, 2, 9])
    assert sorted(stages.files) == [1, 2, 3]
    found = {epoch: adapter(stages.back_to(epoch)) for epoch in (3, 1, 2)}
    for epoch in found:
        alone = memorize("tiny-llama", facts, TUNING.but(epochs=epoch), LORA)
        assert same(found[epoch], adapter(alone.backbone))
    assert not same(found[1], found[2])
    again = memorize_in_stages("tiny-llama", facts, TUNING, LORA, [1, 2, 9])  # nothing is trained again
    assert same(adapter(again.back_to(1)), found[1]) and len(again.done.run.curve) == 3


def test_a_stage_that_is_gone_is_named():
    stages = memorize_in_stages("tiny-llama", random_facts(4, 90), TUNING.but(epochs=2), LORA, [1])
    stages.files[1].unlink()
    with pytest.raises(CheckpointError, match=r"epoch-0001\.safetensors: gone; delete its folder to train again"):
        stages.back_to(1)


def test_the_last_epoch_is_always_a_stage():
    assert stage_epochs([1, 4, 16], 9) == [1, 4, 9]
    assert stage_epochs([1, 4], 4) == [1, 4]
