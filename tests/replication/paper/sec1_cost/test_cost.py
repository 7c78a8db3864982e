"""Bills against hand values, units that refuse to be mixed up, and inputs that are refused by name."""

import math

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mome.replication.paper.sec1_cost.cost import (
    ACCELERATORS,
    INPUTS,
    CostError,
    bill,
    core_energy,
    emitted,
    households,
    quantity,
    training_flops,
)

TIGHT = {"rel": 1e-9, "abs": 0}
MI300X = ACCELERATORS["mi300x"]


def near(value: float):
    return pytest.approx(value, **TIGHT)


def test_a_compute_optimal_400b_model_for_100_epochs_by_hand():
    found = training_flops(quantity(400e9, "parameter"), epochs=100)
    assert found.to("flop").magnitude == near(1.92e27)  # 6 x 4e11 x (20 x 4e11) x 100
    assert f"{found.to_compact():.4g~P}" == "1.92 Rflop"


def test_tokens_that_are_given_take_the_place_of_the_optimal_ones():
    found = training_flops(quantity(70e9, "parameter"), quantity(2e12, "token"))
    assert found.to("flop").magnitude == near(8.4e23)


def test_every_line_of_a_bill_by_hand():
    found = bill(quantity(1.92e27, "flop"), quantity(350_000, "gpu"), MI300X, 0.45, overhead=4 / 3)
    hours = 1.92e27 / (1307.4e12 * 0.45) / 3600
    assert found.gpu_time.to("gpu * hour").magnitude == near(hours)
    assert found.duration.to("day").magnitude == near(hours / 350_000 / 24)
    assert found.power.to("MW").magnitude == near(350)
    assert found.energy.to("kWh").magnitude == near(hours * 0.750 * 4 / 3)
    assert found.dollars.to("USD").magnitude == near(hours * 0.09)  # at 1 kW a GPU
    assert found.carbon.to("kg").magnitude == near(hours * 0.823_1 * 0.453_592_37 / 0.949)
    assert found.households.to("household").magnitude == near(hours / 12_194)


def test_carbon_and_electricity_of_a_home_give_the_same_households():
    """EPA prints 4.798 t of CO2 for a home's electricity: an independent road to the number of homes."""
    energy = quantity(756, "GWh")
    by_carbon = emitted(energy).to("tonne").magnitude / 4.798
    assert households(energy).magnitude == pytest.approx(by_carbon, rel=1e-3)


def test_energy_of_the_cores_by_hand():
    estimate, low, high = core_energy(100)
    assert [part.to("joule").magnitude for part in (estimate, low, high)] == [near(1200), near(420), near(1500)]


@given(st.floats(1e15, 1e30), st.floats(1, 1e6), st.floats(0.01, 1), st.floats(1, 3))
def test_more_gpus_are_quicker_and_no_cheaper(flops, gpus, utilization, overhead):
    one = bill(quantity(flops, "flop"), quantity(gpus, "gpu"), MI300X, utilization, overhead=overhead)
    two = bill(quantity(flops, "flop"), quantity(2 * gpus, "gpu"), MI300X, utilization, overhead=overhead)
    assert two.duration.magnitude == pytest.approx(one.duration.magnitude / 2, rel=1e-9)
    assert two.energy.magnitude == pytest.approx(one.energy.magnitude, rel=1e-9)
    assert one.dollars.magnitude == pytest.approx(0.09 * one.energy.to("kWh").magnitude, rel=1e-9)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: quantity(1, "USD") + quantity(1, "day"),
        lambda: (quantity(1e20, "flop") / quantity(750, "watt")).to("hour"),
        lambda: (quantity(350, "MW") * INPUTS["price"].value).to("USD"),
        lambda: training_flops(quantity(1, "token")),
        lambda: bill(quantity(1, "watt"), quantity(1, "gpu"), MI300X, 0.45),
    ],
)
def test_units_that_do_not_fit_are_refused(mistake):
    with pytest.raises(pint.DimensionalityError):
        mistake()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"utilization": 1.01}, "utilization: must be above 0 and at most 1, got 1.01"),
        ({"utilization": math.nan}, "utilization: .* got nan"),
        ({"gpus": quantity(0, "gpu")}, "gpus: must be finite and above 0, got 0.0 gpu"),
        ({"flops": quantity(math.inf, "flop")}, "flops: must be finite"),
        ({"overhead": -1.0}, "overhead: must be finite and above 0, got -1"),
        ({"price": quantity(-1, "USD / kWh")}, "price: must be finite"),
    ],
)
def test_a_bill_refuses_what_it_cannot_be_made_of(changes, complaint):
    arguments = {"flops": quantity(1e20, "flop"), "gpus": quantity(8, "gpu"), "accelerator": MI300X}
    with pytest.raises(CostError, match=complaint):
        bill(**{**arguments, "utilization": 0.45, **changes})


@pytest.mark.parametrize("name", ["parameters", "tokens", "epochs"])
def test_training_flops_names_what_is_not_positive(name):
    arguments = {"parameters": quantity(1, "parameter"), "tokens": quantity(1, "token"), "epochs": 1.0, name: -1.0}
    with pytest.raises(CostError, match=f"{name}: must be finite and above 0, got -1"):
        training_flops(**arguments)


def test_every_input_names_its_source():
    assert all(found.source and found.name for found in INPUTS.values())
    assert all(found.source for found in ACCELERATORS.values())
