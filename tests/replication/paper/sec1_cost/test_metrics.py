"""What a notebook shows of the bills: means, energy, forecasts at a distance, and metrics that keep their units."""

import numpy
import pandas
import pytest

from mome.replication.counting.flops import LLAMA_3_8B
from mome.replication.paper.sec1_cost import metrics as cost_metrics
from mome.replication.paper.sec1_cost.audit import audit
from mome.replication.paper.sec1_cost.figure import bills


@pytest.fixture
def table() -> pandas.DataFrame:
    """Costs that grow exactly as the facts do, two seeds of memory experts, one of the others."""
    rows = []
    for facts in (10, 100, 1000):
        for seed in (0, 1):
            run = {"cpu_seconds": facts / 10 * (1 + seed), "flops": facts * 10**9, "flops_8b": facts * 10**13}
            extra = {"fixed_cpu_seconds": 5.0, "fixed_flops": 10**9, "recall": 1.0, "epochs": 12.0 + seed}
            rows.append(
                {"method": "mome", "seed": seed, "facts": facts, "seconds": 1.0, "visits": facts, **run, **extra}
            )
        full = {
            "cpu_seconds": facts,
            "flops": facts * 10**10,
            "flops_8b": 1,
            "late_over_early": 1.01,
            "counted_steps": facts * 4 * 10**8,
        }
        rest = {"fixed_cpu_seconds": 0.0, "fixed_flops": 0, "recall": 0.9, "epochs": 30.0, "visits": 1}
        rows.append({"method": "full", "seed": 0, "facts": facts, "seconds": 9.0, **full, **rest})
    rows.append(
        {"method": "router", "seed": 0, "facts": 0, "seconds": 2.0, "cpu_seconds": 3.0, "flops": 7, "visits": 4}
    )
    return pandas.DataFrame(rows)


def test_the_bill_of_one_number_of_facts(table):
    found = cost_metrics.mean_bill(cost_metrics.billed(table, 1000))
    assert list(found.index) == ["full", "mome", "router"] and found["runs"].to_dict() == {
        "full": 1,
        "mome": 2,
        "router": 1,
    }
    assert found["seeds"].to_dict() == {"full": 1, "mome": 2, "router": 1}
    assert found.loc["mome", "all_cpu_seconds"] == 155 and found.loc["mome", "all_flops"] == 1001 * 10**9
    assert found.loc["router", "all_cpu_seconds"] == 3
    energy = found.loc["mome", ["kilojoules", "low", "high"]].astype(float).tolist()
    assert energy == pytest.approx([155 * 0.012, 155 * 0.0042, 155 * 0.015])


def test_a_number_of_facts_without_a_bill_is_refused(table):
    with pytest.raises(ValueError, match=r"the table has no bill of 500, only of \[10, 100, 1000\]"):
        cost_metrics.billed(table, 500)


def test_forecasts_follow_the_points(table):
    laws = cost_metrics.forecasts(table)
    shown = cost_metrics.forecast_table(laws, 1e9)
    assert shown.loc["flops (flop)", ["slope", "at 1,000,000,000 facts"]].tolist() == pytest.approx([1, 1e18])
    assert shown.loc["cpu_seconds (s)", "low"] < shown.loc["cpu_seconds (s)", "high"]
    hours = cost_metrics.hours_on_eight(laws, 1e6)
    assert hours[0] == pytest.approx(1e19 / (8 * 1307.4e12 * 0.45 * 3600), rel=1e-6)
    far = cost_metrics.far_bill(laws, 1e6)
    assert far.duration.to("hour").magnitude == pytest.approx(hours[0], rel=1e-9)
    assert far.power.to("kW").magnitude == pytest.approx(8, rel=1e-9)


def test_limits_beyond_the_flops_by_hand():
    found = cost_metrics.far_limits(1e9)
    assert found["parameters a fact"] == 32 * (4096 + 14336) * 16 and LLAMA_3_8B.layers == 32
    assert found["unshared (PB)"] == pytest.approx(2 * 9_437_184 * 1e9 / 1e15)
    assert found["anchors (FLOP)"] == 2 * 128 * 10**9


def test_metrics_carry_values_units_and_intervals(table):
    rows, laws = cost_metrics.billed(table, 1000), cost_metrics.forecasts(table)
    found = cost_metrics.bill_metrics(rows, 1000) | cost_metrics.forecast_metrics(laws, 10**9)
    assert found["all_cpu_seconds_mome_1000"].value == 155 and found["all_cpu_seconds_mome_1000"].n == 2
    assert found["kilojoules_full_1000"].value == pytest.approx(12) and found["kilojoules_full_1000"].unit == "kJ"
    assert found["flops_of_epochs_over_first_full"].value == pytest.approx(10 / (30 * 0.4))
    assert (found["late_over_early_full"].value, found["late_over_early_full"].unit) == (1.01, "ratio of times")
    assert "recall_router_1000" not in found
    assert found["slope_cpu_seconds"].ci95[0] < 1 < found["slope_cpu_seconds"].ci95[1]
    assert found["flops_8b_1000000000"].value == pytest.approx(1e22, rel=1e-6)
    ratios = cost_metrics.audit_metrics(audit())
    assert ratios["ratio_dollars"].value == pytest.approx(68 / 68.04) and len(ratios) == 7


def test_bills_are_shown_with_their_units(table):
    far = cost_metrics.far_bill(cost_metrics.forecasts(table), 1e6)
    shown = cost_metrics.bills_table({"far": far})["far"]
    assert shown["power"] == "0.008 MW" and shown["flops"].endswith("flop") and shown["dollars"].endswith("USD")


def test_the_figure_shows_every_line_every_method_and_the_papers_marks(table):
    laws = cost_metrics.forecasts(table)
    points = table.loc[table["method"] == "mome", ["facts", "seed", "flops"]].rename(columns={"flops": "measured"})
    bill = cost_metrics.mean_bill(cost_metrics.billed(table, 1000))
    figure = bills(audit(), bill, 1000, points, {"measured": laws["flops"]}, 1e9, {"paper": 3.43e24})
    first, second, third = figure.axes
    assert len(first.get_yticklabels()) == len(audit()) and first.get_xlabel() == "printed / derived"
    assert [label.get_text() for label in second.get_xticklabels()] == [
        "full\nfine-tuning\n1 seed\nrecall\n90.0%",
        "memory\nexperts\n2 seeds\nrecall\n100.0%",
        "router,\nonce\n1 seed",
    ]
    assert third.get_title().startswith("memory experts, 6 runs, 2 seeds\n")
    assert "kJ" in second.get_ylabel() and "FLOPs" in third.get_ylabel()
    dashed = [line.get_ydata()[0] for line in third.get_lines() if line.get_linestyle() == "--"]
    assert 3.43e24 in dashed
    shown = numpy.concatenate([line.get_xdata() for line in first.get_lines() if len(line.get_xdata()) > 2])
    assert sorted(shown) == pytest.approx(sorted(audit()["ratio"]))
