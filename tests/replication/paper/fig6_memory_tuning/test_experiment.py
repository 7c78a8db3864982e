"""The models of figure 6: texts that do not overlap, a run that is the tuner's."""

import math
from dataclasses import replace

import numpy
import pandas
import pytest

from mome.lm.loading import load_backbone
from mome.lm.losses import fact_losses
from mome.replication.experiments.plan import Recipe
from mome.replication.paper.fig6_memory_tuning import experiment as fig6
from mome.replication.paper.fig6_memory_tuning import metrics
from mome.replication.paper.fig6_memory_tuning.figure import memory_tuning
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune

PLAN = fig6.MemoryTuningPlan(
    tuning=TuningSettings(epochs=3, batch_size=4, learning_rate=1e-2),
    lora=LoraSettings(rank=4),
    memory=Recipe().but(
        mome={"num_experts": 256, "top_k": 8},
        router={"objective": "none", "false_alarms": 0.1},
        router_questions=30,
        memory={"learning_rate": 0.02, "epochs": 200, "batch_size": 4},
    ),
)


@pytest.fixture
def texts(small_project, facts) -> fig6.Texts:
    """The made-up facts in three parts."""
    return fig6.Texts(facts[:3], facts[3:6], facts[6:])


@pytest.fixture
def mixed(full_precision, backbone_folder, texts) -> fig6.Mixed:
    """A run of three epochs on them."""
    return fig6.tune_mixed(str(backbone_folder), texts, PLAN)


# --- texts and losses ----------------------------------------------------------------------------------------------


def test_no_fact_is_in_two_texts_and_each_has_its_half_of_known_facts(small_project, random_backbone):
    drawn = fig6.draw_texts(random_backbone, "random", 6, 7, 5, seed=1)
    assert [len(part) for part in (drawn.key, drawn.other, drawn.held_out)] == [6, 7, 5]
    ids = [fact.id for part in (drawn.key, drawn.other, drawn.held_out) for fact in part]
    assert len(set(ids)) == 18
    known = {fact.id for fact in fig6.shipped_facts("known")}
    assert [sum(fact.id in known for fact in part) for part in (drawn.key, drawn.other, drawn.held_out)] == [0, 3, 2]
    assert drawn.known == known.intersection(ids)
    assert all(len(fact.answer) == 32 for fact in drawn.key) and all(len(fact.answer) != 32 for fact in drawn.other)
    real = fig6.draw_texts(random_backbone, "real", 6, 7, 5, seed=1)
    assert [fact.id for fact in real.key] == [fact.id for fact in drawn.key] and real.other == drawn.other


def test_losses_are_means_over_answer_tokens_and_held_out_text_is_asked_in_other_words(
    full_precision, random_backbone, texts
):
    found = fig6.losses_of(random_backbone, texts)
    asked = [*texts.key, *texts.other, *(replace(fact, question=fact.held_out[0]) for fact in texts.held_out)]
    expected = [losses.mean() for losses in fact_losses(random_backbone.model, random_backbone.tokenizer, asked)]
    assert found["loss"].tolist() == pytest.approx(expected, rel=1e-5)
    assert found["text"].tolist() == ["key"] * 3 + ["other"] * 3 + ["eval"] * 2
    assert not found["known"].any()


# --- runs ----------------------------------------------------------------------------------------------------------


def test_the_mixed_run_is_that_of_the_tuner_and_its_moments_are_where_they_say(mixed, backbone_folder, texts):
    plain = load_backbone(str(backbone_folder))
    model = attach_lora(plain, PLAN.lora, PLAN.tuning.seed)
    tune(model, plain.tokenizer, [*texts.key, *texts.other], PLAN.tuning)
    end = fig6.losses_of(replace(plain, model=model), texts)["loss"]
    at = {epoch: part.reset_index(drop=True) for epoch, part in mixed.losses.groupby("epoch")}
    assert at[3]["loss"].tolist() == pytest.approx(end.tolist(), rel=1e-5)
    held_out = [at[epoch].loc[at[epoch]["text"] == "eval", "loss"].mean() for epoch in (1, 2, 3)]
    assert mixed.moments == {"underfit": 1, "generalizing": 1 + int(numpy.argmin(held_out)), "overfit": 3}
    for moment, epoch in mixed.moments.items():
        again = fig6.losses_of(fig6.merged(str(backbone_folder), mixed.weights[moment], PLAN), texts)
        assert again["loss"].tolist() == pytest.approx(at[epoch]["loss"].tolist(), abs=1e-3)


def test_the_run_stops_at_its_loss(backbone_folder, texts):
    first = fig6.tune_mixed(str(backbone_folder), texts, PLAN.model_copy(update={"underfit": 9})).losses
    ending = PLAN.tuning.model_copy(update={"stop_loss": 100.0})
    stopped = fig6.tune_mixed(str(backbone_folder), texts, PLAN.model_copy(update={"tuning": ending}))
    assert stopped.losses["epoch"].max() == 1 and first["epoch"].max() == 3
    assert set(stopped.moments.values()) == {1}


def test_memory_tuning_lowers_key_facts_beside_the_best_model(mixed, backbone_folder, texts):
    models = fig6.measure_models(str(backbone_folder), texts, mixed, PLAN)
    assert list(models["model"].unique()) == list(fig6.MODELS)
    losses = models.groupby(["model", "text"])["loss"].mean()
    for tuned, start in (("memory-tuned", "generalizing"), ("memory-tuned from untouched", "untouched")):
        assert losses[tuned, "key"] < 0.1 < losses[start, "key"]
        assert models.loc[models["model"] == tuned, "recalled"].dropna().tolist() == [1.0] * 3
    epochs = models.groupby("model")["epoch"].first()
    assert epochs["memory-tuned"] == mixed.moments["generalizing"] and epochs["memory-tuned from untouched"] == 0
    assert models.loc[models["text"] != "key", "recalled"].isna().all()


# --- the claim -----------------------------------------------------------------------------------------------------


def table(key: dict[str, float], held_out: dict[str, list[float]], answers: str = "real") -> pandas.DataFrame:
    """One run's models by the loss of their key facts and of two held-out facts; untold: 5 nats/token."""
    rows = []
    for title in fig6.MODELS:
        losses = [("key", key.get(title, 5.0)), ("other", 1.0)]
        losses += [("eval", loss) for loss in held_out.get(title, [5.0, 5.0])]
        for place, (text, loss) in enumerate(losses):
            labels = {"answers": answers, "backbone": "any", "seed": 0, "model": title, "epoch": 1}
            rows.append({**labels, "text": text, "fact": f"{place}", "loss": loss})
    return pandas.DataFrame(rows)


def test_excess_is_taken_fact_by_fact_over_the_best_usual_model():
    models = table({}, {"generalizing": [1.0, 3.0], "overfit": [0.0, 6.0], "memory-tuned": [0.0, 1.0]})
    found = metrics.excesses(models)
    assert found["memory-tuned"] == [[-1.0, -2.0]] and found["overfit"] == [[-1.0, 3.0]]
    assert metrics.excesses(models, "overfit")["generalizing"] == [[1.0, -3.0]]
    over = metrics.excess_intervals(models)
    assert (over["memory-tuned"].mean, over["memory-tuned"].low, over["memory-tuned"].high) == (-1.5, -2.0, -1.0)
    assert (over["generalizing"].mean, over["generalizing"].high, over["generalizing"].n) == (0.0, 0.0, 2)


LOW = {"memory-tuned": 0.01}
BEST = {"generalizing": [1.0, 1.0], "memory-tuned": [1.04, 1.04]}


def test_the_figure_shows_all_models_and_names_its_axes():
    models = table(LOW, BEST)
    curves = models[models["model"] == "overfit"].groupby(["answers", "backbone", "seed", "text"], as_index=False)
    curves = pandas.concat([curves["loss"].mean().assign(epoch=epoch) for epoch in (0, 1, 2)])
    figure = memory_tuning(curves, models, {"real": metrics.excess_intervals(models, "generalizing")}, 0.05, 0.05)
    left, right = figure.axes
    assert left.get_yscale() == "log" and "epoch" in left.get_xlabel()
    assert all("nats/token" in text for text in (left.get_ylabel(), right.get_xlabel(), right.get_ylabel()))
    marks = {line.get_xydata()[0].tolist()[1] for container in right.containers for line in container.lines[:1]}
    assert {0.0, 4.0} <= {round(mark, 6) for mark in marks} and any(math.isclose(mark, 0.04) for mark in marks)
