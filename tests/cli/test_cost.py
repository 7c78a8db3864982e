"""`mome cost` prints the bill that the package computes, and refuses a wrong value by its name."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mome.cli import app
from mome.cli.cost import SHOWN
from mome.replication.paper.sec1_cost.cost import ACCELERATORS, bill, quantity, training_flops


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["cost", *(str(argument) for argument in arguments)])
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
    expected = [getattr(found, name).to(unit).magnitude for name, (_, unit) in SHOWN.items()]
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


@pytest.mark.parametrize(
    "options",
    [["--gpus", "1e-300"], ["--gpus", "0.5"], ["--overhead", "0.5"], ["--price", "1e308", "--tokens", "1e100"]],
    ids=lambda options: " ".join(options),
)
def test_a_bill_that_cannot_be_is_refused(options: list[str]):
    done = CliRunner().invoke(app, ["cost", *options])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [["cost"], ["claims", "--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], warm_python: list[str]):
    command = [*warm_python, "-c", "from mome.cli import app; app()", *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


def test_a_reader_that_leaves_is_no_error(warm_python: list[str]):
    command = f"{shlex.join(warm_python)} -c 'from mome.cli import app; app()' cost | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("F", "")
