"""`mome cost` prints the bill that the package computes, and refuses a wrong value by its name."""

import re

import pytest
import typer
from typer.testing import CliRunner

from mome import cost_command
from mome.cost import ACCELERATORS, bill, quantity, training_flops

APP = typer.Typer()
APP.command()(cost_command.cost)


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


def numbers(output: str) -> list[float]:
    return [float(re.split(r"\s{2,}", line)[1].split()[0].replace(",", "")) for line in output.splitlines() if line]


def test_the_defaults_are_the_papers_run():
    code, output = call()
    assert code == 0 and "1.92e+27 flop" in output and "107.9 d" in output


def test_options_reach_the_bill():
    options = ("--parameters", "8e9", "--tokens", "5e8", "--epochs", 3, "--gpu", "a100", "--gpus", 8, "--mfu", 0.3)
    code, output = call(*options, "--overhead", 1.5, "--price", 0.2)
    flops = training_flops(quantity(8e9, "parameter"), quantity(5e8, "token"), 3)
    price = quantity(0.2, "USD / kWh")
    found = bill(flops, quantity(8, "gpu"), ACCELERATORS["a100"], 0.3, overhead=1.5, price=price)
    expected = [getattr(found, name).to(unit).magnitude for name, (_, unit) in cost_command.SHOWN.items()]
    assert code == 0 and numbers(output) == pytest.approx(expected, rel=5e-4)


def test_sources_are_named():
    _, output = call("--sources")
    for source in ("AMD Instinct MI300X data sheet", "arXiv 2001.08361", "arXiv 2203.15556", "EPA"):
        assert source in output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--mfu", 2), "error: utilization: must be above 0 and at most 1, got 2.0"),
        (("--epochs", 0), "error: epochs: must be finite and above 0, got 0.0"),
        (("--gpus", -8), "error: gpus: must be finite and above 0, got -8.0 gpu"),
        (("--gpu", "abacus"), "'abacus' is not one of"),
        (("--parameters", "many"), "unable to parse string as a number"),
    ],
)
def test_a_wrong_value_is_one_clear_line(options, complaint):
    code, output = call(*options)
    assert code == 2 and complaint in " ".join(output.replace("│", " ").split())
