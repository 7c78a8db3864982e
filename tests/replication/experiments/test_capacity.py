"""What experts hold is counted in bits that no model can guess, and what they take in bytes of a process of its own."""

import multiprocessing
import subprocess
import time
from pathlib import Path

import pytest

from mome.adapter.bank import Bank
from mome.adapter.model import mome_model
from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.loading import load_backbone
from mome.lm.losses import text_loss
from mome.replication.experiments.capacity import _plain_loss, answer_bits, memorize_points
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import random_facts
from mome.replication.paper.sec7_scaling.footprint import MAPPED, memory_table, optimizer_bytes


def test_an_answer_of_32_characters_has_165_bits():
    assert answer_bits() == pytest.approx(165.4, abs=0.05)
    assert answer_bits(2) == pytest.approx(10.34, abs=0.01)


def test_a_point_counts_what_was_memorized_and_in_how_many_parameters(project, backbone_folder):
    recipe = Recipe().but(router={"objective": "none"}, memory={"learning_rate": 0.02, "epochs": 60})
    points = [(1, 64), (2, 64), (2, 4)]
    table = memorize_points(str(backbone_folder), points, recipe, shipped_facts("known")[:3], pool=2, length=2)
    assert table[["facts", "experts"]].values.tolist() == [list(point) for point in points]
    one = table.iloc[0]
    assert one["recall"] == 1 and one["bits_recalled"] == one["bits_asked"] == answer_bits(2)
    assert 0.9 * one["bits_asked"] < one["bits_stored"] <= one["bits_asked"]
    assert one["touched"] == 32 and one["shared"] == 0
    assert one["parameters"] == 64 * (32 + 64) and one["touched_parameters"] == one["parameters"] / 2
    assert table.iloc[2]["shared"] == 1  # four experts, and each fact has them all


def test_the_plain_loss_leaves_the_null_key_out_and_puts_it_back(project, backbone_folder):
    recipe = Recipe().but(router={"objective": "none"}, memory={"epochs": 5, "repairs": 0}, mome={"num_experts": 32})
    asked = shipped_facts("known")[:3]
    done = memorize_mome(str(backbone_folder), random_facts(2, 0), recipe, asked)
    router, model, tokenizer = mome_model(done.backbone.model).router, done.backbone.model, done.backbone.tokenizer
    router.min_score = 2.0  # nothing is recognized
    untouched = load_backbone(str(backbone_folder))
    assert text_loss(model, tokenizer, asked) == text_loss(untouched.model, untouched.tokenizer, asked)
    plain = _plain_loss(done, asked)
    assert min(abs(after - before) for after, before in zip(plain, text_loss(model, tokenizer, asked), strict=True)) > 0
    assert (router.min_score, router.snap) == (2.0, True)


def test_a_point_larger_than_the_pool_is_refused(project, backbone_folder):
    with pytest.raises(ValueError, match="a point has more facts than the pool of 1"):
        memorize_points(str(backbone_folder), [(2, 64)], Recipe(), [], pool=1)


ALLOCATE = """
from mome.replication.paper.sec7_scaling.footprint import peak_memory
before = peak_memory()
block = bytearray(b"x") * 2**28
held = peak_memory()
del block
print(held - before, peak_memory() - before)
"""


def test_the_peak_follows_what_is_allocated(warm_python: list[str]) -> None:
    """In a process of its own: this one may have held far more before, which a peak does not forget."""
    done = subprocess.run([*warm_python, "-c", ALLOCATE], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    held, afterwards = map(int, done.stdout.split())
    assert held >= 2**27 and afterwards >= 2**27


def test_optimizers_keep_what_they_promise():
    found = optimizer_bytes({"one": (256, 768), "two": (256, 768)})
    assert found == {"adam": 2 * 4 * 1024 + 4 / 2, "adafactor": 4 + 4 / 2}
    assert Bank(1, {"one": (256, 768)}).width("one") == 1024


def test_a_mapped_bank_takes_its_touched_rows_on_disk(backbone_folder, facts):
    (row,) = memory_table(str(backbone_folder), facts, [(2**20, MAPPED)], epochs=1).to_dict("records")
    assert 0 < row["touched"] <= 8 * 32
    assert row["row_bytes"] == row["touched"] * 4 * (32 + 64)
    assert row["virtual"] == 2**20 * 4 * (32 + 64)
    # a page of each table for each touched row at most, and a fifth to spare
    assert row["row_bytes"] < row["on_disk"] < 1.2 * row["touched"] * 5 * 4096
    assert row["over"] < row["virtual"]


def test_a_measurement_that_does_not_end_is_killed_and_nothing_else(
    backbone_folder: Path, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    # no limit above 0: a fast machine has measured this small bank before the first look at a limit of 0.2 s ends
    monkeypatch.setattr("mome.replication.paper.sec7_scaling.footprint.MEASURE_SECONDS", 0)
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(99,))
    other.start()
    try:
        with pytest.raises(TimeoutError, match=r"did not end in 0 s"):
            memory_table(str(backbone_folder), facts, [(2**20, MAPPED)], epochs=1)
        assert multiprocessing.active_children() == [other]
    finally:
        other.kill()
        other.join(timeout=60)
