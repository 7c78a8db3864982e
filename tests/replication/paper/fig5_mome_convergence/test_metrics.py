"""The metrics of figure 5 on a real model, and their figure."""

from __future__ import annotations

import pandas
import pytest
from real_runs import damage, run

from mome.replication.paper.fig5_mome_convergence import metrics

RUNS = pandas.DataFrame(
    [
        run(answers, [[3.0, 3.0]] * (length - 1) + [[0.01, 0.02]], method=method)
        for answers in ("real", "random")
        for method, length in (("lora", 8), ("mome", 2))
    ]
)
AFTER = {"leak_tuned_format": "1110", "unchanged_tuned_format": "0001", "known_answers": "0 0 1 1", "text_loss": "4 5"}
CLEAN = AFTER | {"leak_tuned_format": "0000", "unchanged_tuned_format": "1111", "known_answers": "1 1 1 1"}
CLEAN |= {f"same_bits_{name}": "11" for name in ("lambada", "mmlu", "text")}
CLEAN |= {f"out_of_scope_{name}": "00" for name in metrics.SCOPES}
DAMAGE = damage(
    {
        ("before", ""): {"known_answers": "1 1 1 1", "text_loss": "3 4"},
        ("lora", "random"): AFTER,
        ("lora_gated", "random"): {name: CLEAN[name] for name in ("leak_tuned_format", "unchanged_tuned_format")},
        ("mome", "random"): CLEAN,
    }
)


def test_runs_have_the_names_of_the_notebook():
    found = metrics.run_metrics(RUNS)
    assert found["mome_epochs_to_0.05_random"].value == 2 and found["lora_epochs_to_0.05_random"].value == 8
    assert found["lora_recall_real"].n == 2 and found["mome_seconds_real"].timed


def test_damage_is_paired_with_the_untouched_backbone():
    found = metrics.damage_metrics(DAMAGE, 64)
    assert found["leak_lora"].value == 0.75 and found["leak_lora_gated"].value == 0
    assert found["unrelated_unchanged_mome"].value == 1 and found["same_bits_text_mome"].value == 1
    assert found["general_accuracy_drift_lora"].value == -0.5 and found["general_accuracy_drift_mome"].value == 0
    assert found["general_loss_drift_lora"].value == pytest.approx(1) and found["out_of_scope_small_talk"].value == 0


def test_a_method_that_was_not_measured_has_no_metric():
    found = metrics.damage_metrics(DAMAGE[DAMAGE["method"] == "lora"], 64)
    assert found.keys() == {"leak_lora", "unrelated_unchanged_lora"}
    assert metrics.damage_metrics(DAMAGE, 64, "real") == {} and metrics.epoch_ratios(RUNS[:1]) == {}
    assert metrics.wording_metrics(pandas.DataFrame(columns=["training", "least_names", "wording", "items"])) == {}


def test_gate_and_experts_are_differences_of_the_same_items():
    found = metrics.gate_metrics(DAMAGE, 64)
    assert found["leak_by_gate"].value == -0.75 and found["unrelated_unchanged_by_gate"].value == 0.75
    alike = found["unrelated_unchanged_by_experts"]
    assert alike.value == 0 and alike.bounds[1] == -alike.bounds[0] > 0


def test_ratios_of_epochs_pair_the_seeds():
    other = pandas.concat(
        [RUNS, RUNS[RUNS["method"] == "mome"].assign(seed=1, **{"epochs_to_0.05": None, "epochs": 9})]
    )
    found = metrics.epoch_ratios(other)
    assert found["epochs_ratio_random"].value == 0.25 and found["epochs_ratio_random"].n == 1


def test_the_best_rates_count_where_both_methods_were_tried_at_as_many():
    quick = RUNS[RUNS["method"] == "lora"].assign(learning_rate=1e-3, **{"epochs_to_0.05": 4})
    slow = RUNS[RUNS["method"] == "mome"].assign(learning_rate=1e-2, **{"epochs_to_0.05": 7})
    found = metrics.best_rate_ratios(pandas.concat([RUNS, quick, slow]))
    assert found["epochs_ratio_random_best_rates"].value == 0.5
    assert metrics.best_rate_ratios(pandas.concat([RUNS, quick])) == metrics.best_rate_ratios(RUNS) == {}
    assert metrics.best_rate_ratios(RUNS[:0]) == {}


def test_recognition_is_of_one_number_of_facts_at_one_promised_rate():
    row = {"facts": 10_000, "promised": 0.01, "recognized": 0.9, "absent_taken": 0.25}
    rows = [row | {"n_recognized": 10, "n_absent": 4}, row | {"promised": 0.002, "recognized": 0.1}]
    found = metrics.recognition_metrics(pandas.DataFrame(rows).fillna(10), 10_000, 0.01)
    assert found["recognized_10000"].value == 0.9 and found["absent_taken_10000"].value == 0.25


def test_wordings_are_counted_by_how_they_were_trained():
    rows = [
        *(("shipped", 0.8, "held_out", "1110"), ("shipped", 0.8, "by_hand", "10")),
        *(("template_withheld", 0.8, "held_out", "01"), ("shipped", 0.0, "held_out", "1111")),
    ]
    found = metrics.wording_metrics(pandas.DataFrame(rows, columns=["training", "least_names", "wording", "items"]))
    values = {name: metric.value for name, metric in found.items()}
    assert values == {
        "other_wordings_recall_mome": 0.75,
        "handwritten_recall_mome": 0.5,
        "template_withheld_recall_mome": 0.5,
        "other_wordings_recall_mome_no_names": 1.0,
    }


def test_routers_with_and_without_the_check_of_names_are_told_apart():
    states = {
        ("lora", "random"): {"leak_tuned_format": "1111"},
        ("mome", "random"): {"leak_tuned_format": "0011"},
        ("mome_names", "random"): {"leak_tuned_format": "0001"},
    }
    table = damage(states)
    checked = metrics.damage_metrics(metrics.relabelled(table, metrics.CHECKED), 64)
    assert {name: found.value for name, found in checked.items()} == {"leak_lora": 1, "leak_mome": 0.25}
    (name,) = unchecked = metrics.unchecked_metrics(table, 64)
    assert name == "leak_mome_no_names" and unchecked[name].value == 0.5
