"""The metrics of figure 1 from a table of runs."""

from __future__ import annotations

import pandas
import pytest
from real_runs import run

from mome.replication.paper.fig1_random_vs_real.metrics import curve_differences, kept_metrics

REAL = run("real", [[2.0, 1.0], [0.04, 0.02]])
RANDOM = run("random", [[4.0, 4.0], [2.0, 2.0], [0.1, 0.02]], recalled="10")


def test_metrics_have_the_names_of_the_notebook_and_their_suffixes():
    more = [run(answers, [[3.0] * 4, [0.04] * 4]) for answers in ("real", "random")]
    other = [run(answers, [[3.0] * 2, [0.04] * 2], dataset="mmlu") for answers in ("real", "random")]
    found = kept_metrics(pandas.DataFrame([REAL, RANDOM, *more, *other]))
    assert found["lora_epochs_to_0.05_real"].value == 2
    assert found["lora_epochs_to_0.05_random"].value == 3  # it never got there: all of its epochs
    assert found["lora_recall_random"].value == 0.5 and found["lora_recall_random"].n == 2
    assert found["lora_final_loss_real"].value == pytest.approx(0.03)
    assert found["lora_final_loss_real_4"].n == 4 and "lora_final_loss_real_mmlu" in found
    assert {"guess_rate", "curve_difference_random_real", "curve_difference_largest_p_mmlu"} <= set(found)


def test_the_difference_of_curves_goes_on_with_the_last_loss_of_the_shorter_run():
    (row,) = curve_differences(pandas.DataFrame([REAL, RANDOM])).to_dict("records")
    real = [(2.0 + 0.04 + 0.04) / 3, (1.0 + 0.02 + 0.02) / 3]
    random = [(4.0 + 2.0 + 0.1) / 3, (4.0 + 2.0 + 0.02) / 3]
    assert row["random - real (nats/token)"] == pytest.approx(sum(random) / 2 - sum(real) / 2, rel=1e-4)


def test_a_run_without_its_counterpart_has_no_difference():
    assert curve_differences(pandas.DataFrame([REAL])).empty
    assert "curve_difference_random_real" not in kept_metrics(pandas.DataFrame([REAL]))
