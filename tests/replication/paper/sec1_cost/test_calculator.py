"""The calculator's sliders give the bills of `mome cost`; without a user it is a table."""

import pandas
import pytest

from mome.replication.paper.sec1_cost.calculator import Calculator, calculator
from mome.replication.paper.sec1_cost.cost import ACCELERATORS, Bill, bill, quantity, training_flops


def paper_bill(accelerator: str = "mi300x", **changes: float) -> Bill:
    value = {"parameters": 400e9, "epochs": 100, "gpus": 350_000, "utilization": 0.45, "price": 0.09} | changes
    work = training_flops(quantity(value["parameters"], "parameter"), epochs=value["epochs"])
    price = quantity(value["price"], "USD / kWh")
    return bill(work, quantity(value["gpus"], "gpu"), ACCELERATORS[accelerator], value["utilization"], price=price)


def test_without_a_user_it_is_the_table_of_the_runs():
    table = calculator({"a run": paper_bill()})
    assert isinstance(table, pandas.DataFrame) and list(table.columns) == ["a run"]


def test_it_starts_with_the_paper_and_shows_the_runs_beside():
    made = Calculator({"a run": paper_bill()})
    assert made.bill().dollars.magnitude == pytest.approx(paper_bill().dollars.magnitude)
    assert "what the sliders say" in made.shown.value and "a run" in made.shown.value


@pytest.mark.parametrize(
    "changes", [{"parameters": 70e9}, {"epochs": 1.0}, {"gpus": 1e3}, {"utilization": 0.3}, {"price": 0.2}]
)
def test_a_slider_changes_the_bill_and_what_is_shown(changes: dict[str, float]):
    made = Calculator({})
    before = made.shown.value
    for name, value in changes.items():
        made.sliders[name].value = value
    assert made.shown.value != before
    for field in ("flops", "duration", "dollars"):
        expected = getattr(paper_bill(**changes), field).magnitude
        assert getattr(made.bill(), field).magnitude == pytest.approx(expected, rel=1e-6)


def test_another_accelerator_and_other_tokens():
    made = Calculator({})
    made.kind.value = "h100"
    assert made.bill().power.magnitude == pytest.approx(paper_bill("h100").power.magnitude)
    made.sliders["tokens_each"].value = 200
    assert made.bill().flops.magnitude == pytest.approx(10 * paper_bill().flops.magnitude)


def test_what_no_bill_can_be_made_of_is_said(monkeypatch: pytest.MonkeyPatch):
    made = Calculator({})
    monkeypatch.setitem(made.sliders, "gpus", type("Zero", (), {"value": 0.5}))
    made.sliders["price"].value = 0.3
    assert made.shown.value == "<p>gpus: must be at least 1, got 0.5 gpu</p>"
