"""Times are taken of work that is right, side by side, and ratios compare like with like."""

from typing import Any

import numpy
import pandas
import pytest
import torch

from mome.adapter.config import MomeConfig
from mome.adapter.index import FlatIndex
from mome.lm.loading import load_backbone
from mome.replication.bench import steps as scaling
from mome.replication.bench import tables
from mome.replication.notebook import results
from mome.replication.paper.sec7_scaling import experiment
from mome.replication.paper.sec7_scaling.figure import scaling as draw
from mome.replication.paper.sec7_scaling.metrics import lookup_metrics, point_metrics, short, step_metrics
from mome.train.attach import attach_mome
from mome.train.lora import attach_lora


@pytest.fixture(scope="module")
def steps(backbone_folder, facts) -> pandas.DataFrame:
    return scaling.time_steps(str(backbone_folder), facts, [64, 256], batch_size=4, passes=4)


def test_every_contender_takes_every_batch_once_a_pass(steps):
    assert set(steps["pass"]) == {0, 1, 2, 3}
    contenders = steps.groupby(["method", "optimizer", "experts"]).size()
    assert len(contenders) == 2 * (2 + 1 + 2) and set(contenders) == {4}
    assert (steps["ms"] > 0).all()


def test_rows_shared_as_in_the_smallest_bank_are_as_many(steps):
    rows = steps.groupby(["method", "experts"])["rows"].first()
    assert rows[scaling.SAME_ROWS, 256] == rows[scaling.MOME, 64] < rows[scaling.MOME, 256]
    assert rows[scaling.SAME_MODULES, 0] == 0


def test_a_step_takes_the_same_work_in_any_bank(steps):
    work = steps.groupby(["method", "experts", "optimizer"])[["work_rows", "flops", "bytes"]].agg(["min", "max"])
    assert (work.xs("min", level=1, axis=1) == work.xs("max", level=1, axis=1)).all(axis=None)
    work = work.xs("min", level=1, axis=1)
    keys = [(scaling.MOME, 64), (scaling.MOME, 256), (scaling.SAME_ROWS, 256)]
    small, large, alike = (work.loc[(*key, "adam")] for key in keys)
    assert 0 < small["flops"] == alike["flops"] == pytest.approx(large["flops"], rel=1e-3)  # more rows are updated
    assert 0 < small["bytes"] == alike["bytes"] < large["bytes"]


def test_contenders_that_do_not_start_alike_are_refused(backbone_folder, facts, monkeypatch):
    monkeypatch.setattr(scaling, "AGREEMENT", -1.0)
    with pytest.raises(RuntimeError, match="disagree about the loss of the first batch"):
        scaling.time_steps(str(backbone_folder), facts, [64], ["adam"], batch_size=4, passes=1)


def test_a_contender_that_does_not_learn_is_refused():
    labels = {"method": "mome", "experts": 64, "optimizer": "adam"}
    table = pandas.DataFrame([{**labels, "pass": number, "loss": 1.0} for number in (0, 1)])
    with pytest.raises(RuntimeError, match=r"1 passes took the loss from 1\.000 to 1\.000"):
        scaling._check_learning(table)


def test_too_few_facts_are_refused(facts):
    with pytest.raises(ValueError, match="8 facts: two batches of 8 are needed"):
        scaling.time_steps("unread", facts, [64], batch_size=8)


def test_lora_on_the_same_modules_trains_as_many_numbers_as_a_facts_experts(backbone_folder):
    backbone, other = load_backbone(str(backbone_folder)), load_backbone(str(backbone_folder))
    lora: Any = attach_lora(other, scaling.lora_settings(other.model, scaling.SAME_MODULES), seed=0)
    mome: Any = attach_mome(backbone, MomeConfig(num_experts=64), seed=0).base_model
    adapted = {name.partition(".lora_A")[0] for name, _ in lora.named_parameters() if ".lora_A" in name}
    assert {name.removeprefix("base_model.model.") for name in adapted} == set(mome.bank.shapes)
    trained = sum(parameter.numel() for parameter in lora.parameters() if parameter.requires_grad)
    assert trained == 32 * sum(mome.bank.width(module) for module in mome.bank.shapes)


def test_lookups_are_timed_for_each_index_size_and_query():
    table = experiment.time_lookups([64, 256], k=8, size=16, queries=3)
    assert set(table.groupby(["index", "experts"]).size()) == {3} and len(table) == 3 * 2 * 3
    assert {"lookup_ms_flat_64", "lookup_ms_product_key_256", "lookup_ms_torch_topk_64"} <= lookup_metrics(table).keys()


def test_a_search_that_misses_a_key_is_refused(monkeypatch):
    monkeypatch.setattr(FlatIndex, "search", lambda self, queries, k: torch.arange(k).expand(len(queries), -1))
    with pytest.raises(RuntimeError, match="flat, 64 experts: the search misses one of the 4 best keys"):
        experiment.time_lookups([64], k=4, size=16, queries=1)


def test_ratios_pair_the_same_round_whatever_the_order():
    fast = [{"method": "a", "pass": number, "ms": 10.0 * number} for number in (1, 2, 3)]
    slow = [{"method": "b", "pass": number, "ms": 20.0 * number} for number in (3, 1, 2)]
    table = pandas.DataFrame(fast + slow)
    ratio = tables.times(table, ["pass"], method="b") / tables.times(table, ["pass"], method="a")
    found = results.median_metric(ratio, "ratio")
    assert (found.value, found.n) == (2.0, 3)


def test_a_median_has_an_interval_around_it():
    values = pandas.Series(numpy.random.default_rng(0).exponential(size=40))
    found = results.median_metric(values, "ms")
    assert found.value == values.median() and found.ci95[0] < found.value < found.ci95[1]
    spread = tables.medians(pandas.DataFrame({"index": "x", "ms": values}), ["index"]).iloc[0]
    assert spread["p20"] < spread["median"] < spread["p80"] and spread["n"] == 40


def test_the_metrics_of_steps_leave_the_first_touch_out(steps):
    steps = steps.assign(ms=numpy.where(steps["pass"] == 0, 1000.0, 1.0 + steps["experts"] / 64))
    found = {name: metric.value for name, metric in step_metrics(steps).items()}
    assert found["step_ms_64"] == 2 and found["first_touch_step_ms_64"] == 1000
    assert found["step_ratio_256_64"] == 2.5 and found["step_over_lora_all_linear_adafactor"] == 5
    assert found["step_flops_ratio_256_64"] == pytest.approx(1, rel=1e-3)
    assert found["step_bytes_ratio_256_64_same_rows"] == 1
    assert [short(count) for count in (256, 1024, 65_536, 2**20)] == ["256", "1k", "64k", "1M"]


def point(facts: int, experts: int, characters: int = 32) -> dict[str, Any]:
    bits = {"bits_asked": 100.0 * facts, "bits_stored": 90.0 * facts, "bits_recalled": 100.0 * facts}
    sizes = {"parameters": experts * 100, "touched_parameters": facts * 100, "touched": facts, "shared": 0.1}
    run = {
        "recall": 1.0,
        "seconds": 0.01 * facts,
        "visits": 10.0,
        "drift": 0.0,
        "drift_plain": 0.1,
        "general_accuracy": 1.0,
    }
    labels = {"backbone": "one", "seed": 0, "facts": facts, "experts": experts, "characters": characters}
    return {**labels, **bits, **sizes, **run}


def test_bits_are_counted_for_the_bank_and_for_the_touched_rows():
    found = {name: metric.value for name, metric in point_metrics(pandas.DataFrame([point(4, 64)])).items()}
    assert found["bits_per_parameter_bank_4_64"] == pytest.approx(360 / 6400)
    assert found["bits_per_parameter_touched_4_64"] == pytest.approx(0.9)
    assert found["ms_per_fact_4_64"] == pytest.approx(10)


def test_the_figure_shows_all_sizes_with_units(steps):
    labels = ["method", "optimizer", "experts"]
    looked = experiment.time_lookups([64, 256], k=4, size=16, queries=2)
    sizes = {"over": 2e6, "row_bytes": 1e6, "optimizer_bytes": 2e6, "virtual": 8e6, "on_disk": 3e6, "facts": 8}
    cases = [(64, "memory"), (256, "memory"), (256, "mapped file")]
    memory = pandas.DataFrame([{"experts": n, "storage": kind, "optimizer": "adam", **sizes} for n, kind in cases])
    points = pandas.DataFrame([point(facts, experts) for facts in (4, 8) for experts in (64, 256)])
    timed, lookups = tables.medians(steps, labels), tables.medians(looked, ["index", "experts"])
    figure = draw(timed, lookups, memory, points, pandas.DataFrame([point(8, 4, 2)]), {"others": 2.0})
    assert len(figure.axes) == 6
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["64", "256"]
    units = ("(ms)", "(ms)", "MiB", "(ms)", "nats/token", "bits")
    assert all(unit in axis.get_ylabel() for axis, unit in zip(figure.axes, units, strict=True))
    behind = [axis.get_title().split("\n")[1] for axis in figure.axes]
    counts = (
        f"n = {timed['n'].iloc[0]} steps",
        "n = 2 questions",
        "n = 1 process",
        "n = 4 runs",
        "n = 4 runs",
        "n = 5 runs",
    )
    assert all(text.startswith(f"1 seed, {count}") for text, count in zip(behind, counts, strict=True))
