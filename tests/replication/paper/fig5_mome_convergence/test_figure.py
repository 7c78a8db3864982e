"""The figure of a real model says what was found, and what was not measured."""

from __future__ import annotations

import pandas
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from real_runs import damage, run

from mome.replication.paper.fig5_mome_convergence import metrics
from mome.replication.paper.fig5_mome_convergence.figure import convergence, real_convergence

RUNS = pandas.DataFrame(
    [
        run(answers, [[3.0, 3.0]] * (length - 1) + [[0.01, 0.02]], method=method)
        for answers in ("real", "random")
        for method, length in (("lora", 8), ("mome", 2))
    ]
)


def after(kept: int) -> dict[str, str]:
    """Free answers to 400 unrelated questions of which so many stay as they were; the others leak."""
    stays = "1" * kept + "0" * (400 - kept)
    return {"unchanged_tuned_format": stays, "leak_tuned_format": stays.translate({48: "1", 49: "0"})}


def drawn(runs: pandas.DataFrame, **kept: int) -> Figure:
    table = damage({(method, "random"): after(count) for method, count in kept.items()})
    found = metrics.run_metrics(runs) | metrics.epoch_ratios(runs)
    if kept:
        found |= metrics.damage_metrics(table, 64) | metrics.gate_metrics(table, 64)
    return real_convergence(runs, found, 0.05)


@pytest.mark.parametrize(
    ("gated", "experts", "said"),
    [
        (400, 400, "The rejection threshold gives this, not the experts"),
        (200, 400, "The experts keep more than the rejection threshold does alone"),
        (400, 300, "The experts keep fewer than LoRA behind the same"),
    ],
)
def test_the_title_compares_epochs_and_says_who_keeps_unrelated_answers(gated: int, experts: int, said: str):
    title = drawn(RUNS, lora=0, lora_gated=gated, mome=experts).get_suptitle()
    assert "in 0.25 of LoRA's epochs at the paper's rate (2 and 8; 1 seed)" in title
    assert f"LoRA behind the threshold {gated / 400:.1%}, experts {experts / 400:.1%}" in title
    assert said in title


def test_what_was_not_measured_is_drawn_as_such():
    figure = drawn(RUNS[RUNS["method"] == "mome"], lora=0)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert texts.count("not measured") == 4 and texts.count("LoRA, rank 32: not measured") >= 1
    assert "random answers was not measured" in figure.get_suptitle()
    assert "LoRA behind the rejection threshold and memory experts leave of unrelated answers" in figure.get_suptitle()
    assert "not measured" in drawn(RUNS[:0]).get_suptitle()


def tiny(lora: list[list[float]], mome: list[list[float]]) -> Figure:
    """The figure of runs of two seeds with these losses, an epoch each."""
    rows = [
        {"backbone": "any", "seed": seed, "answers": answers, "method": method, "epoch": epoch, "loss": loss}
        for answers in ("real", "random")
        for method, runs in (("lora", lora), ("mome", mome), ("mome_large", mome))
        for seed, losses in enumerate(runs)
        for epoch, loss in enumerate(losses, start=1)
    ]
    ablated = pandas.DataFrame([{"recipe": "no null key", "recall": 1.0, "general_accuracy": 0.5}])
    kept = {"lora": {"recall": 0.9, "general_accuracy": 0.25}, "mome": {"recall": 1.0, "general_accuracy": 0.995}}
    return convergence(pandas.DataFrame(rows), ablated, kept, 0.05, 128, 200)


def test_the_title_says_how_many_epochs_both_methods_took_and_what_they_leave():
    found = tiny([[3.0, 1.0, 0.05], [3.0, 0.01]], [[0.04], [0.02]])  # a run that is done early keeps its last loss
    title = found.get_suptitle().replace("\n", " ")
    assert "below 0.05 nats/token in 1 epochs with memory experts, in 2.5 epochs with LoRA (2 seeds)" in title
    assert "of the general answers memory experts leave 99.5%, LoRA 25.0% (n = 200 questions a run)" in title
    assert [axis.get_title() for axis in found.axes][:2] == ["128 real answers", "128 random answers"]


def test_a_run_that_never_gets_there_is_said_and_not_averaged_away():
    title = tiny([[3.0, 0.05], [3.0, 0.06]], [[1.0], [1.0]]).get_suptitle().replace("\n", " ")
    assert "not in 1 epochs with memory experts, not in 2 epochs with LoRA" in title
