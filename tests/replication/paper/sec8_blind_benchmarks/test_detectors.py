"""Benchmarks as detectors of ruin, on made-up checkpoints whose AUC is known."""

from __future__ import annotations

import numpy
import pandas
import pytest

from mome.replication.experiments.real_model.damaged import as_text
from mome.replication.experiments.real_model.reduced import TUNED
from mome.replication.paper.sec8_blind_benchmarks import detectors

EPOCHS, ITEMS, SEEDS = (1, 4, 16), 40, 3
LEAKS = {("random", 1): 0.0, ("random", 4): 0.5, ("random", 16): 0.9}  # shares; nothing leaks after real answers


def first(share: float) -> list[float]:
    """Items of which the first `share` are right."""
    return [float(place < round(share * ITEMS)) for place in range(ITEMS)]


def table(**scores) -> pandas.DataFrame:
    """Checkpoints of three seeds; `scores` are functions of answers and epoch that give a share."""
    asked = {"leak_tuned_format": lambda answers, epoch: LEAKS.get((answers, epoch), 0.0), **scores}
    places = [("", 0, 0), *((kind, seed, at) for kind in ("random", "real") for seed in range(SEEDS) for at in EPOCHS)]
    rows = [
        {"answers": kind, "seed": seed, "epoch": at, "measure": name, "items": as_text(first(score(kind, at)))}
        for kind, seed, at in places
        for name, score in asked.items()
    ]
    return pandas.DataFrame(rows)


def test_auc_is_the_share_of_pairs_in_the_right_order_with_ties_half():
    assert detectors.auc([3, 2, 1, 0], [True, True, False, False]) == 1
    assert detectors.auc([0, 1, 2, 3], [True, True, False, False]) == 0
    assert detectors.auc([1, 1, 1, 1], [True, False, True, False]) == 0.5
    assert detectors.auc([2, 0, 1], [True, True, False]) == 0.5
    assert numpy.isnan(detectors.auc([1, 2], [True, True]))


def test_a_checkpoint_is_ruined_from_a_tenth_of_leaks_on():
    found = detectors.ruined(table())
    assert detectors.points(table())[found][["answers", "epoch"]].drop_duplicates().values.tolist() == [
        ["random", 4],
        ["random", 16],
    ]


def test_a_benchmark_that_falls_with_ruin_sees_it_and_one_that_rises_does_not():
    falls = table(mmlu=lambda kind, epoch: 0.3 if LEAKS.get((kind, epoch)) else 0.8)
    found = detectors.detector(falls, "mmlu")
    assert found is not None and found.value == 1 and found.bounds == (1, 1)
    assert (found.n, found.runs) == (2 * SEEDS * len(EPOCHS), SEEDS)
    rises = table(mmlu=lambda kind, epoch: 0.9 if LEAKS.get((kind, epoch)) else 0.5)
    blind = detectors.detector(rises, "mmlu")
    assert blind is not None and blind.value == 0


def test_a_loss_counts_the_other_way_round():
    rises = table(text_loss=lambda kind, epoch: 0.9 if LEAKS.get((kind, epoch)) else 0.5)
    found = detectors.detector(rises, "text_loss")
    assert found is not None and found.value == 1


def test_noise_is_chance_and_its_interval_says_so():
    generator = numpy.random.default_rng(0)
    found = detectors.detector(table(mc2=lambda *_: generator.uniform(0.4, 0.6)), "mc2")
    assert found is not None and found.bounds[0] < 0.5 < found.bounds[1]


def test_without_ruin_there_is_nothing_to_detect():
    calm = table(mmlu=lambda *_: 0.5)
    assert detectors.detector(calm[calm["answers"] != "random"], "mmlu") is None


def test_memorized_questions_are_left_out_of_truthfulqa():
    # the first ten questions were memorized: MC1 rises on them alone
    rose = table(
        mc1=lambda kind, epoch: 0.25 if kind == "real" else 0.0, **{TUNED: lambda kind, _: 0.25 if kind else 0.0}
    )
    assert not detectors.measured(rose, "mc1").changes().any()
    assert detectors.measured(rose.assign(measure=rose["measure"].replace("mc1", "mmlu")), "mmlu").changes().any()


def test_damage_by_forgotten_answers_counts_what_does_not_leak():
    lost = table(
        known_answers=lambda kind, epoch: 0.5 if epoch == 16 else 0.9,
        mmlu=lambda kind, epoch: 0.3 if epoch == 16 else 0.8,
    )
    found = detectors.detector(lost, "mmlu", forgotten=True)
    assert found is not None and found.value == 1


def test_checkpoints_of_other_items_are_refused():
    cut = table(mmlu=lambda *_: 0.5)
    cut.loc[cut.index[-1], "items"] = "0101"
    with pytest.raises(ValueError, match="mmlu: needs the untouched backbone and every checkpoint on the same items"):
        detectors.measured(cut, "mmlu")
