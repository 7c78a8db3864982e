"""What training costs: FLOPs, time, power, energy, money and carbon. Numbers carry units (pint) and name their source.

Adding days to dollars, or dividing FLOPs by watts and calling it hours, raises `pint.DimensionalityError`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pint

UNITS: pint.UnitRegistry = pint.UnitRegistry()
for _line in (
    "flop = [computation]",
    "token = [text]",
    "parameter = [weight]",
    "gpu = [accelerator]",
    "USD = [money]",
    "household = [household]",
    "fact = [fact]",
):
    UNITS.define(_line)

Quantity = Any  # pint's own type is generic over a magnitude that its operators do not keep


class CostError(ValueError):
    """An input that no bill can be made of; the message names it, its value and what is valid."""


@dataclass(frozen=True, slots=True)
class Input:
    """A number taken from elsewhere: what it is, its value with its unit, and who says so."""

    name: str
    value: Quantity
    source: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device at its data sheet's dense bf16 peak (FLOP/s for each GPU) and board power (W for each GPU)."""

    name: str
    peak: Quantity
    power: Quantity
    source: str


def quantity(value: float, unit: str) -> Quantity:
    """`value` in `unit`, such as quantity(90, "day")."""
    return UNITS.Quantity(float(value), unit)


def _accelerator(name: str, teraflops: float, watts: float, source: str) -> Accelerator:
    return Accelerator(name, quantity(teraflops, "teraflop / second / gpu"), quantity(watts, "watt / gpu"), source)


ACCELERATORS = {
    "mi300x": _accelerator("AMD Instinct MI300X", 1307.4, 750, "AMD Instinct MI300X data sheet"),
    "a100": _accelerator("NVIDIA A100 80GB SXM", 312, 400, "NVIDIA A100 80GB data sheet"),
    "h100": _accelerator("NVIDIA H100 SXM", 989.4, 700, "NVIDIA H100 data sheet"),
}

_EPA = "EPA Greenhouse Gas Equivalencies Calculator, calculations and references (2022 data)"
_LLAMA_2 = "Touvron et al. 2023, Llama 2, arXiv 2307.09288"
_GREEN = "Lannelongue et al. 2021 (Green Algorithms), doi 10.1002/advs.202100707, table of CPUs"
INPUTS = {
    "flops": Input(
        "FLOPs for each parameter and token, forward and backward",
        quantity(6, "flop / parameter / token"),
        "Kaplan et al. 2020, arXiv 2001.08361, section 2.1",
    ),
    "optimal": Input(
        "compute-optimal tokens for each parameter",
        quantity(20, "token / parameter"),
        "Hoffmann et al. 2022 (Chinchilla), arXiv 2203.15556: 1.4T tokens for 70B parameters",
    ),
    "row_520b": Input(
        "FLOPs of one epoch of a compute-optimal 520B model",
        quantity(3.43e25, "flop"),
        "Hoffmann et al. 2022 (Chinchilla), arXiv 2203.15556, table 3",
    ),
    "twice_peak": Input(
        "MI300X peak in FP8, or in bf16 with structured sparsity",
        quantity(2614.9, "teraflop / second / gpu"),
        "AMD Instinct MI300X data sheet",
    ),
    "price": Input("price of electricity", quantity(0.09, "USD / kWh"), "the paper, section 1.1"),
    "home": Input("electricity of a US home", quantity(12_194, "kWh / household / year"), _EPA),
    "customer": Input(
        "electricity of a US residential customer",
        quantity(10_715, "kWh / household / year"),
        "EIA, frequently asked question 97 (2020 data)",
    ),
    "grid": Input(
        "carbon of electricity delivered in the US, 5.1% lost on the way",
        (quantity(823.1, "lb / MWh") / (1 - 0.051)).to("kg / kWh"),
        _EPA,
    ),
    "llama_2_hours": Input("pretraining of Llama 2 70B", quantity(1_720_320, "gpu * hour"), f"{_LLAMA_2}, table 2"),
    "llama_2_tokens": Input("tokens of Llama 2", quantity(2e12, "token"), f"{_LLAMA_2}, table 1"),
    "core": Input("power of one busy CPU core", quantity(12, "watt"), f"{_GREEN}: default"),
    "core_low": Input("the same, lowest of a server", quantity(4.2, "watt"), f"{_GREEN}: AMD EPYC 7552"),
    "core_high": Input("the same, highest of a server", quantity(15, "watt"), f"{_GREEN}: AMD EPYC 7251"),
}
CORES = ("core", "core_low", "core_high")


@dataclass(frozen=True, slots=True)
class Bill:
    """What a training run takes; see `bill` for how each follows from the one before."""

    flops: Quantity
    gpu_time: Quantity
    duration: Quantity
    power: Quantity
    energy: Quantity
    dollars: Quantity
    carbon: Quantity
    households: Quantity


def training_flops(parameters: Quantity, tokens: Quantity | None = None, epochs: float = 1) -> Quantity:
    """6 N D an epoch, attention left out; D is compute-optimal (20 tokens a parameter) where `tokens` is None.

    Raises:
        CostError: a value that is not positive.
    """
    for name, value in (("parameters", parameters), ("tokens", tokens), ("epochs", epochs)):
        if value is not None:
            _check_positive(name, value)
    tokens = INPUTS["optimal"].value * parameters if tokens is None else tokens
    return (INPUTS["flops"].value * parameters * tokens * epochs).to("flop")


def bill(
    flops: Quantity,
    gpus: Quantity,
    accelerator: Accelerator,
    utilization: float,
    *,
    overhead: float = 1.0,
    price: Quantity = INPUTS["price"].value,
) -> Bill:
    """The bill of computing `flops` on `gpus` devices: electricity alone, as in the paper; no hardware, no people.

    Args:
        flops: the work.
        gpus: how many devices share it.
        accelerator: their peak and power.
        utilization: the share of the peak that does the work (MFU).
        overhead: all power over the devices' own (hosts, network, cooling).
        price: of electricity.

    Raises:
        CostError: a value or a part of the bill is not positive and finite, a utilization above 1, an overhead or a
            number of devices below 1.
    """
    for name, value in (("flops", flops), ("gpus", gpus), ("overhead", overhead), ("price", price)):
        _check_positive(name, value)
    if not 0 < utilization <= 1:
        raise CostError(f"utilization: must be above 0 and at most 1, got {utilization!r}")
    if overhead < 1:
        raise CostError(f"overhead: all power over the devices' own is at least 1, got {overhead!r}")
    if gpus.magnitude < 1:
        raise CostError(f"gpus: must be at least 1, got {gpus}")
    gpu_time = (flops / (accelerator.peak * utilization)).to("gpu * hour")
    power = (gpus * accelerator.power * overhead).to("megawatt")
    duration = (gpu_time / gpus).to("day")
    return _priced(flops.to("flop"), gpu_time, duration, power, price)


def _priced(flops: Quantity, gpu_time: Quantity, duration: Quantity, power: Quantity, price: Quantity) -> Bill:
    energy = (power * duration).to("kWh")
    dollars, carbon = (energy * price).to("USD"), emitted(energy)
    made = Bill(flops, gpu_time, duration, power, energy, dollars, carbon, households(energy))
    for field in fields(made):
        _check_positive(field.name, getattr(made, field.name))  # such as a work so large that its energy is infinite
    return made


def emitted(energy: Quantity) -> Quantity:
    """Carbon dioxide of generating `energy` for the US grid, in tonnes."""
    return (energy * INPUTS["grid"].value).to("tonne")


def households(energy: Quantity, use: Quantity = INPUTS["home"].value) -> Quantity:
    """How many US homes `energy` would supply for a year; their electricity's carbon gives the same number."""
    return (energy / (use * quantity(1, "year"))).to("household")


def core_energy(cpu_seconds: float) -> tuple[Quantity, Quantity, Quantity]:
    """(estimate, low, high) of what the cores take in `cpu_seconds` of work, in joules; memory, cooling left out."""
    estimate, low, high = (quantity(cpu_seconds, "second") * INPUTS[name].value for name in CORES)
    return estimate.to("joule"), low.to("joule"), high.to("joule")


def _check_positive(name: str, value: Quantity) -> None:
    number = value.magnitude if isinstance(value, UNITS.Quantity) else value
    if not 0 < number < float("inf"):
        raise CostError(f"{name}: must be finite and above 0, got {value}")
