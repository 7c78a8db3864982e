"""What is watched is what the model says: tokens, free answers, samples, along runs that are those of the trainers."""

import copy
import math
from contextlib import nullcontext
from typing import Any

import numpy
import pandas
import pytest
import torch

from mome.lm.generation import exact
from mome.lm.loading import Backbone, load_backbone
from mome.lm.losses import fact_losses
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe
from mome.replication.paper.sec5_threshold import experiment as threshold
from mome.replication.paper.sec5_threshold import metrics
from mome.replication.paper.sec5_threshold.figure import threshold as draw
from mome.replication.paper.sec5_threshold.simple_network import train_simple_network
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune

TUNING = TuningSettings(epochs=3, batch_size=4, learning_rate=1e-2)
RECIPE = Recipe().but(
    mome={"num_experts": 256, "top_k": 8},
    router={"objective": "none", "false_alarms": 0.1},
    router_questions=30,
    memory={"learning_rate": 0.02, "epochs": 4, "batch_size": 4, "repairs": 1},
)
WATCH = threshold.WatchSettings(backbone=TUNING, lora=TUNING, mome=RECIPE, moments=(2,), closely=1e-9, drawn_tokens=0)


@pytest.fixture
def f32(full_precision: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All products in f32, in this room too."""
    monkeypatch.setattr(threshold, "multiply_bf16", lambda device: nullcontext())


@pytest.fixture
def knowing(learned: Any, random_backbone: Backbone) -> Backbone:
    """A model that knows the facts."""
    return Backbone("learned", learned.model, random_backbone.tokenizer)


def losses_of(tokens: pandas.DataFrame, fact: int) -> list[float]:
    return tokens.loc[tokens["fact"] == fact, "loss"].tolist()


# --- one look ------------------------------------------------------------------------------------------------------


def test_tokens_have_the_losses_of_the_evaluation(f32, knowing, facts, monkeypatch):
    monkeypatch.setattr(threshold, "BATCH_ROWS", 3)
    tokens = threshold.token_table(knowing, facts)
    for index, losses in enumerate(fact_losses(knowing.model, knowing.tokenizer, facts)):
        assert losses_of(tokens, index) == pytest.approx(losses.tolist(), abs=1e-4)
        assert tokens.loc[tokens["fact"] == index, "position"].tolist() == list(range(len(losses)))


def test_a_token_is_right_where_it_alone_is_the_greatest():
    logits = torch.tensor([[0.0, 2.0, 1.0], [2.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-5.0, -9.0, -5.1]])
    losses, right = threshold._scored(logits, torch.tensor([1, 1, 1, 0]))
    assert right.tolist() == [True, False, False, True]
    expected = logits.double().logsumexp(dim=1) - torch.tensor([2.0, 2.0, 2.0, -5.0])
    assert losses == pytest.approx(expected.numpy(), abs=1e-6)


def test_an_answer_is_the_sum_of_its_tokens_and_its_free_text(knowing, facts):
    wrong = [facts[0], *(fact.__class__(fact.id, fact.question, "Zzyzx") for fact in facts[1:3])]
    tokens = threshold.token_table(knowing, wrong)
    answers = threshold.answer_table(knowing, wrong, tokens)
    assert answers["recalled"].tolist() == answers["right"].tolist() == [True, False, False]
    assert answers["hallucinated"].tolist() == [False, True, True]
    assert answers["recalled"].tolist() == exact(knowing.model, knowing.tokenizer, wrong)
    for index in range(3):
        losses = losses_of(tokens, index)
        row = answers.loc[index]
        assert (row["tokens"], row["loss"], row["worst"]) == pytest.approx((len(losses), sum(losses), max(losses)))


def test_samples_come_as_often_as_their_loss_says(f32, random_backbone, facts):
    """A model half tuned: some answers are likely, some not."""
    backbone = Backbone("half", copy.deepcopy(random_backbone.model), random_backbone.tokenizer)
    half = Backbone("half", attach_lora(backbone, LoraSettings(rank=8), seed=0), backbone.tokenizer)
    settings = TuningSettings(epochs=40, batch_size=4, learning_rate=5e-3, stop_loss=0.15)
    tune(half.model, half.tokenizer, facts, settings)
    expected = numpy.array([math.exp(-losses.sum()) for losses in fact_losses(half.model, half.tokenizer, facts)])
    draws = 250
    found = numpy.array(threshold.sampled_recall(half, facts, draws, seed=1))
    assert 0.1 < expected.mean() < 0.9
    assert (abs(found - expected) < 5 * numpy.sqrt(expected * (1 - expected) / draws) + 1e-9).all()


# --- whole runs ----------------------------------------------------------------------------------------------------


def test_a_watched_lora_run_is_that_of_the_tuner(f32, backbone_folder, facts):
    tokens, answers = threshold.watch_tuning(str(backbone_folder), facts, "lora", WATCH, seed=0)
    assert answers.groupby("epoch").size().to_dict() == {0: 8, 2: 8, 3: 8}
    plain = load_backbone(str(backbone_folder))
    model: Any = attach_lora(plain, LoraSettings(), TUNING.seed)
    tune(model, plain.tokenizer, facts, TUNING)
    last = tokens[tokens["epoch"] == 3]
    for index, losses in enumerate(fact_losses(model, plain.tokenizer, facts)):
        assert losses_of(last, index) == pytest.approx(losses.tolist(), abs=1e-4)
    assert set(tokens["method"]) == {"lora"} and set(tokens["seed"]) == {0}


def test_all_weights_of_the_backbone_learn_and_the_run_stops_at_its_loss(backbone_folder, facts):
    ending = TuningSettings(epochs=60, batch_size=4, learning_rate=2e-3, stop_loss=0.5)
    watch = WATCH.model_copy(update={"backbone": ending, "closely": 1.0, "drawn_tokens": 500})
    tokens, answers = threshold.watch_tuning(str(backbone_folder), facts, "backbone", watch)
    means = tokens.groupby("epoch")["loss"].mean()
    assert means.index[-1] < 60 and means.iloc[-1] < 0.6 < means.iloc[0]
    assert len(means) > 3  # looked at closely at its end
    assert answers["sampled"].notna().sum() == 8 and set(answers["draws"]) - {0}


def test_watched_memory_experts_are_those_of_the_trainer(f32, small_project, backbone_folder, facts):
    tokens, answers = threshold.watch_tuning(str(backbone_folder), facts, "mome", WATCH)
    done = memorize_mome(str(backbone_folder), facts, RECIPE, [])
    last = tokens[tokens["epoch"] == tokens["epoch"].max()]
    for index, losses in enumerate(fact_losses(done.backbone.model, done.backbone.tokenizer, facts)):
        assert losses_of(last, index) == pytest.approx(losses.tolist(), abs=1e-4)
    assert {0, 2} < set(answers["epoch"]) and answers.groupby("epoch").size().eq(8).all()
    assert tokens.groupby("epoch")["loss"].mean().is_monotonic_decreasing


def test_the_untouched_backbone_is_looked_at_once(backbone_folder, facts):
    tokens, answers = threshold.watch_untouched(str(backbone_folder), facts[:2], method="untouched")
    assert set(tokens["epoch"]) == {0} and len(answers) == 2 and answers["sampled"].isna().all()


# --- tables --------------------------------------------------------------------------------------------------------


def tables() -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Two facts at two moments: one of them wrong at first."""
    columns = ["epoch", "fact", "position", "loss", "right"]
    early = [(0, 0, 0, 0.1, True), (0, 1, 0, 1.0, False), (0, 1, 1, 0.3, True)]
    late = [(1, 0, 0, 0.1, True), (1, 1, 0, 0.2, True), (1, 1, 1, 0.3, True)]
    tokens = pandas.DataFrame([*early, *late], columns=columns)
    answers = tokens.groupby(["epoch", "fact"], as_index=False).agg(loss=("loss", "sum"), right=("right", "all"))
    return tokens, answers.assign(recalled=answers["right"], hallucinated=~answers["right"])


def test_moments_hold_means_and_shares():
    tokens, answers = tables()
    first, second = metrics.moments(tokens, answers, ["epoch"]).to_dict("records")
    assert (first["mean_loss"], first["mean_answer_loss"]) == pytest.approx((1.4 / 3, 0.7))
    assert (first["tokens"], first["facts"]) == (3, 2)
    assert first["wrong"] == first["not_recalled"] == first["hallucinated"] == 0.5
    assert second["wrong"] == second["hallucinated"] == 0
    assert first["sampled_wrong"] == pytest.approx(1 - (math.exp(-0.1) + math.exp(-1.3)) / 2)


def test_violations_are_counted_on_both_sides():
    tokens, _ = tables()
    assert metrics.violations(tokens, vocabulary=3) == 0
    assert metrics.violations(tokens.assign(right=~tokens["right"]), vocabulary=3) == 5
    assert metrics.violations(tokens.assign(loss=math.log(3) + 1e-9), vocabulary=3) == 5


def test_overlap_says_whether_one_loss_parts_the_moments():
    found = pandas.DataFrame({"mean_loss": [0.1, 0.2, 0.3, 0.4], "wrong": [0.0, 0.5, 0.0, 1.0]})
    assert metrics.overlap(found, "wrong") == (0.3, 0.2)
    clean, dirty = metrics.overlap(found.iloc[1:2], "wrong")
    assert math.isnan(clean) and dirty == 0.2


def test_the_figure_names_its_axes_and_bounds():
    tokens, answers = tables()
    labels = {"method": "lora", "answers": "real", "backbone": "any", "seed": 0}
    answers = answers.assign(sampled=[0.5, 0.25, math.nan, math.nan], draws=[4, 4, 0, 0], **labels)
    found = metrics.moments(tokens.assign(**labels), answers, [*labels, "epoch"])
    run = train_simple_network([0, 0], numpy.array([[0, 1], [1, 1]]), 2, steps=3).assign(different=True, run="0")
    figure = draw(tokens.assign(**labels), answers, found, run, 2048, [("a million", 1e6)], 10.0)
    assert len(figure.axes) == 6
    for axis in figure.axes:
        assert axis.get_xlabel() and axis.get_ylabel() and axis.get_title() and axis.get_legend()
    marked = {line.get_xdata()[0] for line in figure.axes[0].lines if len({*line.get_xdata()}) == 1}
    assert {math.log(2), math.log(2048)} <= marked
