"""A bill's FLOPs are those that torch counts, its passes those that ran, and its forecast a textbook interval."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pandas
import pytest
import torch
from typer.testing import CliRunner

from mome.adapter.config import MomeConfig
from mome.adapter.queries import question_queries
from mome.cli import app
from mome.facts.fact import Fact
from mome.lm.loading import load_backbone
from mome.lm.losses import text_loss
from mome.replication.counting.flops import LLAMA_3_8B, Decoder, Pass, forward, full_step, lora_step, memory_step
from mome.replication.counting.meter import FULL, LORA, METHODS, MOME, Meter, Seen, closed_form
from mome.replication.paper.sec1_cost import experiment as bill
from mome.replication.paper.sec1_cost.experiment import CostPlan, bill_rows, late_over_early, measure_cost
from mome.replication.paper.sec1_cost.forecast import forecast
from mome.train.attach import attach_mome
from mome.train.experts import memorize_facts
from mome.train.lora import attach_lora
from mome.train.tuning import tune


@pytest.fixture(scope="module")
def plan() -> CostPlan:
    settings = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "stop_loss": None}
    phases = {"router": {"steps": 4, "batch_size": 16}, "memory": {"epochs": 4}, "router_questions": 48}
    return CostPlan().but(full=settings, lora=settings, adapter={"rank": 4}, mome={"num_experts": 1024}, **phases)


@pytest.fixture
def root(small_root, monkeypatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(small_root))


@pytest.fixture
def measured(root, backbone_folder, facts, plan) -> dict[str, dict[str, Any]]:
    return {
        method: measure_cost(method, str(backbone_folder), facts, facts, plan, counted_epochs=2) for method in METHODS
    }


def test_the_bill_of_each_method(measured, facts):
    for method, row in measured.items():
        assert (row["method"], row["facts"], row["experts"]) == (method, len(facts), 1024 if method == MOME else 0)
        assert row["counted_steps"] == row["closed_steps"] > 0
        assert 0 <= row["recall"] <= 1 and row["cpu_seconds"] > 0 and row["seconds"] > 0
        assert row["flops"] > row["counted"]  # three epochs and more, where two were counted
        assert row["flops_8b"] > 1000 * row["flops"]
    for method in (FULL, LORA):
        assert measured[method]["counted"] == measured[method]["counted_steps"]
        assert measured[method]["visits"] == 3 * len(facts) and measured[method]["fixed_flops"] == 0
        assert measured[method]["flops"] > measured[method]["counted"] * 1.4
    assert measured[MOME]["fixed_flops"] > 0 and measured[MOME]["counted"] > measured[MOME]["counted_steps"]


def test_a_count_that_the_closed_form_misses_is_refused(root, backbone_folder, facts, plan, monkeypatch):
    monkeypatch.setattr(bill, "closed_form", lambda *_: 1)
    with pytest.raises(RuntimeError, match=r"full: torch counts [\d,]+ FLOPs in the steps, the closed form says 1"):
        bill.count(FULL, str(backbone_folder), facts, facts, plan)


def test_rows_come_in_order_and_the_router_is_billed_once(root, monkeypatch, plan):
    monkeypatch.setattr(bill, "measure_cost", lambda method, name, facts, *_: (method, len(facts)))
    monkeypatch.setattr(bill, "measure_router", lambda *_: "router")
    rows = list(bill_rows("unread", [2, 5], plan, ["lora", "mome"]))
    assert rows == [("lora", 2), ("lora", 5), "router", ("mome", 2), ("mome", 5)]
    with pytest.raises(ValueError, match="method 'rag' is not one of full, lora, mome"):
        next(bill_rows("unread", [2], plan, ["rag"]))


def test_phase_1_is_trained_afresh_and_counted(root, backbone_folder, facts, plan):
    row = bill.measure_router(str(backbone_folder), facts, plan)
    assert row["method"] == "router" and row["visits"] == 4 * 16
    assert row["flops"] == row["counted"] > 0 and row["cpu_seconds"] > 0


def test_of_the_flops_only_the_lookups_grow_with_the_experts(root, backbone_folder, monkeypatch, plan):
    monkeypatch.setattr(bill, "count", lambda *_: {"counted": 10**6})
    found = bill.count_by_experts(str(backbone_folder), 3, [64, 256], plan)
    # 3 questions, half queries of 64 numbers, 8 + 8 and 16 + 16 half keys
    assert found == {64: 10**6 + 2 * 3 * 64 * 16, 256: 10**6 + 2 * 3 * 64 * 32}


def test_seeds_and_shortening_reach_every_method():
    changed = CostPlan().seeded(7).shortened(2)
    parts = (changed.full, changed.lora, changed.memory)
    assert [part.seed for part in parts] == [7, 7, 7] and changed.router.seed == 7
    assert [part.epochs for part in parts] == [2, 2, 2] and changed.memory.repairs == 0
    assert changed.full.stop_loss is None and changed.full.learning_rate == CostPlan().full.learning_rate


# --- the meter ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [FULL, LORA])
def test_passes_are_seen_with_their_shapes_and_count_exactly(method, backbone, facts, plan):
    model: Any = backbone.model
    if method == FULL:
        model.requires_grad_(True)
    else:
        model = attach_lora(backbone, plan.adapter, 0)
    with Meter(model, counting=True) as meter:
        tune(model, backbone.tokenizer, facts, plan.full)
    assert [seen.batch.rows for seen in meter.passes] == [4, 4] * 3 and all(seen.learns for seen in meter.passes)
    assert {seen.batch.layers for seen in meter.passes} == {2}
    decoder = Decoder.of(model.config)
    steps = {FULL: lambda batch: full_step(decoder, batch), LORA: lambda batch: lora_step(decoder, batch, 4)}
    assert meter.counted == sum(steps[method](seen.batch) for seen in meter.passes)
    assert meter.counted == closed_form(method, model, meter.passes, 4)


def test_steps_of_memory_experts_count_exactly(backbone, facts, plan):
    model: Any = attach_mome(backbone, MomeConfig(num_experts=1024), 0)
    with Meter(model, counting=True) as meter:
        memorize_facts(model, backbone.tokenizer, facts, plan.memory.model_copy(update={"batch_size": 4}))
    steps = [seen for seen in meter.passes if seen.learns]
    assert len(steps) >= 2 and all(seen.experts and seen.batch.layers == 1 for seen in steps)
    expected = sum(memory_step(Decoder.of(model.config), seen.batch, 32) for seen in steps)
    assert meter.counted_steps() == expected == closed_form(MOME, model, steps, 32)
    assert closed_form(MOME, model, meter.passes, 32) == pytest.approx(meter.counted, rel=0.1)


def test_passes_without_experts_or_gradients_are_forward_passes(backbone, facts):
    model: Any = attach_mome(backbone, MomeConfig(num_experts=64), 0)
    with Meter(model) as meter:
        question_queries(model, backbone.tokenizer, [fact.question for fact in facts])
    (seen,) = meter.passes
    assert (seen.batch.rows, seen.batch.layers, seen.batch.scored) == (8, 1, 0) and not seen.learns
    assert closed_form(MOME, model, meter.passes, 32) == forward(Decoder.of(model.config), seen.batch)
    assert meter.counted is None


def test_nothing_is_watched_after_the_context(backbone, facts: list[Fact]):
    with Meter(backbone.model) as meter:
        text_loss(backbone.model, backbone.tokenizer, facts)
    seen = len(meter.passes)
    text_loss(backbone.model, backbone.tokenizer, facts)
    assert seen == len(meter.passes) > 0


def test_the_same_passes_on_another_decoder_keep_their_share_of_its_layers():
    model: Any = SimpleNamespace(config=load_shape())
    seen = Seen(Pass(2, 5, 4, 3), learns=True, experts=False, cpu=0.0)
    expected = full_step(LLAMA_3_8B, Pass(2, 5, 32, 3))
    assert closed_form(FULL, model, [seen], 0, LLAMA_3_8B) == expected


def load_shape() -> Any:
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    return SimpleNamespace(**dict(zip(names, (4, 8, 16, 2, 1), strict=True)), vocab_size=32)


def test_torchs_counter_is_taught_the_experts_operators():
    """2 for each multiply and add, forward down and up; back only the products that the asked gradients need."""
    from mome.replication.counting.meter import _gather, _gather_backward

    x, a, b, ids, gradient = (2, 5, 3), (9, 1, 3), (9, 1, 4), (2, 6), (2, 5, 4)
    down, up = 2 * 10 * 3 * 6, 2 * 10 * 4 * 6
    assert _gather(x, a, b, ids, (2, 6), None, torch.float32, "auto") == down + up
    rest = ((2, 6), None)
    every = _gather_backward(gradient, x, a, b, ids, *rest, [True, True, True, False], 1, torch.float32, "auto")
    lowest = _gather_backward(gradient, x, None, b, ids, *rest, [False, True, True, False], 1, torch.float32, "auto")
    assert every == 2 * up + 2 * down and lowest == 2 * up + down


# --- time and forecast ----------------------------------------------------------------------------------------------


def test_late_over_early_compares_the_last_third_of_the_steps_with_the_first():
    starts = [0, 1, 2, 3, 5, 7, 10, 13]
    passes = [Seen(Pass(1, 1, 1), True, False, float(start)) for start in starts]
    waits = [Seen(Pass(1, 1, 1), False, False, 2.5)]
    assert late_over_early(passes[:3] + waits + passes[3:], 16.0) == 3.0
    assert numpy.isnan(late_over_early(passes[:4], 5.0))


def test_a_power_law_is_found_again_without_error():
    facts = numpy.array([10, 20, 80, 1000])
    fitted = forecast(facts, 3e5 * facts**1.25)
    value, low, high = fitted.at([1e9])
    assert fitted.slope == pytest.approx(1.25, rel=1e-9)
    assert value == pytest.approx(3e5 * 1e9**1.25, rel=1e-6)
    assert low == pytest.approx(value, rel=1e-6) and high == pytest.approx(value, rel=1e-6)


def test_the_interval_is_that_of_the_normal_equations():
    """Against the covariance of the coefficients from the design matrix, at a point far outside."""
    rng = numpy.random.default_rng(0)
    facts = numpy.repeat([100, 200, 400, 800], 3)
    costs = 5 * facts * 10 ** rng.normal(0, 0.02, len(facts))
    value, low, high = forecast(facts, costs).at(1e9)
    design = numpy.stack([numpy.ones(len(facts)), numpy.log10(facts)], axis=1)
    coefficients, rest, _, _ = numpy.linalg.lstsq(design, numpy.log10(costs), rcond=None)
    covariance = rest[0] / 10 * numpy.linalg.inv(design.T @ design)
    point = numpy.array([1, 9])
    reach = 2.228_138_85 * numpy.sqrt(point @ covariance @ point)  # Student's t, 10 degrees of freedom, 97.5%
    assert numpy.log10([value, low, high]) == pytest.approx(point @ coefficients + reach * numpy.array([0, -1, 1]))


@pytest.mark.parametrize(("facts", "costs"), [([1, 2], [1, 2]), ([5, 5, 5], [1, 2, 3]), ([1, 2, 3], [1, 0, 2])])
def test_a_forecast_needs_points_of_several_sizes(facts, costs):
    with pytest.raises(ValueError, match="needs 3 positive points of 2 sizes or more, got"):
        forecast(facts, costs)


def test_a_shipped_backbone_is_a_decoder_of_this_shape():
    decoder = Decoder.of(load_backbone("tiny-llama").model.config)
    assert (decoder.layers, decoder.hidden, decoder.head_size) == (4, 256, 64)


# --- the command ----------------------------------------------------------------------------------------------------


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["table", "cost", *(str(argument) for argument in arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


@pytest.fixture
def fake_rows(monkeypatch):
    """What was asked for, and a row for each size that counts how often it was measured."""
    asked = []

    def rows(backbone, sizes, plan, methods):
        asked.append((backbone, list(sizes), plan.lora.seed, list(methods)))
        for method in methods:
            for size in sizes:
                labels = {"method": method, "backbone": backbone, "seed": plan.lora.seed, "facts": size, "experts": 0}
                yield {**labels, "seconds": float(len(asked))}

    monkeypatch.setattr(bill, "bill_rows", rows)
    return asked


def test_a_bill_keeps_other_rows_and_replaces_its_own(fake_rows, tmp_path: Path):
    out = tmp_path / "new" / "bill.csv"
    assert call(out, "--facts", 8, "--facts", 4, "--seeds", 2)[0] == 0
    assert call(out, "--facts", 8, "--method", "lora")[0] == 0
    assert fake_rows[0] == ("tiny-llama", [8, 4], 0, ["full", "lora", "mome"])
    table = pandas.read_csv(out).set_index(["method", "seed", "facts"])
    assert len(table) == 3 * 2 * 2
    assert table.loc[("lora", 0, 8), "seconds"] == 3 and table.loc[("lora", 0, 4), "seconds"] == 1
    expected = f"mome table cost {out} --facts=8 --method=lora --seeds=1 --backbone=tiny-llama"
    assert table.loc[("lora", 0, 8), "command"] == expected
    assert table["cpu"].notna().all() and table["commit"].notna().all()


def test_a_bill_of_a_thousand_facts_is_the_default(fake_rows, tmp_path: Path):
    call(tmp_path / "bill.csv")
    assert fake_rows == [("tiny-llama", [1000], 0, ["full", "lora", "mome"])]


def test_a_bill_refuses_an_unknown_method_and_too_many_facts(tmp_path: Path):
    code, output = call(tmp_path / "bill.csv", "--method", "rag")
    assert code == 2 and "error: method 'rag' is not one of full, lora, mome" in output
    code, output = call(tmp_path / "bill.csv", "--facts", 10**6)
    assert code == 2 and "error: 1000000 facts: only 7259 are shipped" in output
    assert not list(tmp_path.iterdir())
