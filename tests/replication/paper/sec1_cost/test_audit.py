"""The audit's lines against arithmetic done by hand, and its printed values against the list of claims."""

import pandas
import pytest

from mome.replication.notebook.claims import read_claims
from mome.replication.paper.sec1_cost.audit import PRINTED, audit, inputs, printed_energy
from mome.replication.paper.sec1_cost.cost import ACCELERATORS, INPUTS

PEAK, TWICE, A100 = 1307.4e12, 2614.9e12, 312e12
RATE = 350_000 * 0.45
DAY = 86_400
# every derivation once more, with plain numbers: (quantity, what it is derived from) -> value in the printed unit
BY_HAND = {
    ("flops", "6 N D, D = 20 tokens x 400B, 100 epochs"): 6 * 4e11 * 8e12 * 100,
    ("flops", "Chinchilla's table 3, 520B model, times 100 epochs"): 3.43e27,
    ("time", "the printed FLOPs, 1,307.4 TFLOP/s"): 3.43e24 / (RATE * PEAK) / DAY,
    ("time", "6 N D x 100, 1,307.4 TFLOP/s"): 1.92e27 / (RATE * PEAK) / DAY,
    ("time", "3.43e27 FLOPs, 1,307.4 TFLOP/s"): 3.43e27 / (RATE * PEAK) / DAY,
    ("time", "3.43e27 FLOPs, 2,614.9 TFLOP/s"): 3.43e27 / (RATE * TWICE) / DAY,
    ("power", "350,000 x 750 W"): 262.5,
    ("dollars", "350 MW, 90 days, $0.09/kWh"): 350_000 * 90 * 24 * 0.09,
    ("dollars", "350 MW, the printed FLOPs"): 350_000 * 3.43e24 / (RATE * PEAK) / 3600 * 0.09,
    ("dollars", "350 MW, 6 N D x 100"): 350_000 * 1.92e27 / (RATE * PEAK) / 3600 * 0.09,
    ("households", "756 GWh, 12,194 kWh a home (EPA)"): 756e6 / 12_194,
    ("households", "756 GWh, 10,715 kWh a customer (EIA)"): 756e6 / 10_715,
    ("llama time", "1,720,320 GPU hours on 2,000"): 35.84,
    ("llama time", "6 N D, 2T tokens, 45% of 312 TFLOP/s"): 8.4e23 / (2_000 * A100 * 0.45) / DAY,
    ("llama time", "6 N D, 20 tokens a parameter"): 6 * 7e10 * 1.4e12 / (2_000 * A100 * 0.45) / DAY,
    ("utilization", "6 N D, 2T tokens, 35 days on 2,000 A100"): 8.4e23 / (2_000 * A100 * 35 * DAY),
    ("llama epochs time", "6 N D, 100 x 2T tokens"): 8.4e25 / (2_000 * A100 * 0.45) / DAY,
}


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    return audit()


def test_every_line_by_hand(table):
    found = {(row["quantity"], row["from"]): row["derived"] for row in table.to_dict("records")}
    assert found == pytest.approx(BY_HAND, rel=1e-9)


def test_a_ratio_is_printed_over_derived(table):
    assert (table["ratio"] * table["derived"]).to_numpy() == pytest.approx(table["printed"].to_numpy(), rel=1e-12)


def test_the_printed_flops_take_hours_and_the_dollars_agree(table):
    lines = table.set_index(["quantity", "from"])["derived"]
    assert lines["time", "the printed FLOPs, 1,307.4 TFLOP/s"] * 24 == pytest.approx(4.627, abs=1e-3)
    assert lines["dollars", "350 MW, 90 days, $0.09/kWh"] == pytest.approx(68.04e6, rel=1e-9)
    assert printed_energy().to("GWh").magnitude == pytest.approx(756, rel=1e-12)


def test_printed_values_are_those_of_the_list_of_claims():
    text = {claim.id: claim.paper_value for claim in read_claims()}
    for part in ("3.43e24 FLOPs", "3 months on 350,000 MI300X at 45% MFU", "350 MW", "$68M at $0.09/kWh", "62,000 US"):
        assert part in text["C09"]
    assert "100 x 35 days on 2,000 A100" in text["C20"]
    values = {name: value.magnitude for name, value in PRINTED.items()}
    assert (values["flops"], values["gpus"], values["utilization"], values["power"]) == (3.43e24, 350_000, 0.45, 350)
    assert (values["dollars"], values["households"], values["llama_epochs_time"]) == (68e6, 62_000, 3_500)


def test_every_line_says_what_reconciles_it(table):
    assert (table["reconciled by"].str.len() > 5).all() and set(table["claim"]) == {"C09", "C20"}


def test_every_input_is_listed_with_its_unit_and_source():
    listed = inputs().set_index("input")
    assert len(listed) == len(INPUTS) + 2 * len(ACCELERATORS) and (listed["source"].str.len() > 5).all()
    assert listed.loc["AMD Instinct MI300X: dense bf16 peak", "value"] == "1307.4 teraflop/gpu/second"
    assert listed.loc["electricity of a US home", "value"].startswith("12194 kilowatt_hour/household/year")
