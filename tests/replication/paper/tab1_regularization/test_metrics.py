"""The metrics of table 1 on a real model, and their figure."""

from __future__ import annotations

import pytest
from real_runs import damage

from mome.replication.paper.tab1_regularization.figure import INSTRUMENTS, damage_chart
from mome.replication.paper.tab1_regularization.metrics import FORMATS, damage_metrics

MEASURES = {"known_answers": "1 0.5 1 1", "mc1": "0101", "mc2": "0.5 0.25", "mmlu": "11", "lambada": "10"}


def table(leak: str):
    leaks = {f"leak_{form}": leak for form in FORMATS}
    before = {**MEASURES, "text_loss": "3.5 3.7", **dict.fromkeys(leaks, "0000")}
    after = {
        **MEASURES,
        "known_answers": "0000",
        "text_loss": "4 4.2",
        "kl": "0.5 0.7",
        "recall_as_tuned": "1",
        **leaks,
    }
    return damage({("before", ""): before, ("lora", "random"): after, ("lora", "real"): after, ("mome", "random"): {}})


def test_measures_are_named_by_their_state():
    found = damage_metrics(table("1110"), 64)
    assert found["leak_random_prose"].value == 0.75 and found["leak_before_chat"].value == 0
    assert found["known_answers_before"].value == 0.875 and found["known_answers_real"].value == 0
    assert found["text_loss_random"].value == pytest.approx(4.1) and found["text_loss_random"].unit == "nats/token"
    assert found["kl_random"].n == 2 and "kl_before" not in found and "recall_as_tuned_random" not in found


@pytest.mark.parametrize(("leak", "said"), [("1110", "75% of 4"), ("0000", "0% of 4")])
def test_the_title_says_how_much_leaks(leak: str, said: str):
    figure = damage_chart(damage_metrics(table(leak), 64), 1, 64, "real-model")
    assert said in " ".join(figure.get_suptitle().split())


def test_the_papers_table_is_drawn_beside_ours():
    """No leak at the left; at the right each score as it was before."""
    metrics = damage_metrics(table("1110"), 64)
    left, right = damage_chart(metrics, 1, 64, "real-model").axes
    papers = [[line for line in axis.lines if line.get_linestyle() == "--"] for axis in (left, right)]
    assert [set(line.get_ydata()) for line in papers[0]] == [{0}]
    before = [100 * metrics[f"{name}_before"].value for name in INSTRUMENTS]
    assert [list(line.get_xdata()) for line in papers[1]] == [[score, score] for score in before]
    legends = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in (left, right)]
    assert all(any("paper: unchanged" in label for label in legend) for legend in legends)


@pytest.mark.parametrize("answers", [["random"], ["random", "real"]])
def test_bars_stand_around_their_format(answers: list[str]):
    found = table("1110")
    left = damage_chart(damage_metrics(found[found["answers"].isin(["", *answers])], 64), 1, 64, "real-model").axes[0]
    centers = sorted(bar.get_x() + bar.get_width() / 2 for bar in left.patches)
    assert sum(centers[: len(answers)]) == pytest.approx(0) and len(centers) == len(answers) * len(FORMATS)
