"""Notebooks of a few cells in a temporary project, and the command that runs them."""

import multiprocessing
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner, Result

import mome
from mome.cli import app
from mome.replication.notebook.parameters import notebook_path
from mome.replication.reproduce import runner

STEM = "01_fig1_good"
PARAMETERS = """\
profile = "tiny"
seeds = [0]  # one is enough here
backbones = ["tiny-llama"]
facts = 128
lr = 2e-3
exact = True
layers = [1, 2]
"""
WRITE = """\
import sys
from mome.files.environment import Environment, Hardware
from mome.replication.notebook.parameters import parameters_from
from mome.replication.notebook.results import Metric, Result, config_hash, write_result

config = parameters_from(STEM, globals())
packages = dict.fromkeys(("torch", "transformers", "peft", "numpy", "mome"), "1.0")
hardware = Hardware(cpu="any", cores=1, memory_gib=1.0, accelerator="none")
environment = Environment(python=sys.executable, platform="any", commit="unknown", dirty=None, hardware=hardware,
                          threads=1, **packages)
metrics = {"loss": Metric(value=lr, unit="nats/token", n=facts, ci95=(0.0, lr)),
           "recall": Metric(value=float(len(seeds)), unit="fraction", n=facts)}
result = Result(notebook=STEM, profile=profile, config=config, config_hash=config_hash(config), seeds=seeds,
                seconds=0.1, environment=environment, metrics=metrics, claims=[])
write_result(result)
"""
# what a notebook leaves besides its result: two tables and a figure, and nothing else
WRITE_ALL = """\
import matplotlib.pyplot as pyplot
import pandas
from mome.replication.notebook.style import save_figure
from mome.replication.notebook.results import Destination

destination = Destination.fresh(profile, STEM)
destination.save_table(pandas.DataFrame({"lr": [lr]}))
destination.save_table(pandas.DataFrame({"seed": seeds}), "seeds")
figure = pyplot.figure(figsize=(1, 1))
figure.text(0, 0, f"{lr} {seeds}")
save_figure(figure, destination)
"""


def made_up_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `folder` the project of this process and of the kernels that it starts.

    Runs side by side are in forks of this process, which has imported what the runner needs: a fresh one takes two CPU
    seconds for that. The runs of commands, which tests interrupt and kill, are in fresh ones.
    """
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forking)
    monkeypatch.setenv("MOME_ROOT", str(folder))
    monkeypatch.delenv("MOME_HOME", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(mome.__file__).parents[1]))
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "notebooks").mkdir()
    return folder


def write_warm_kernel(folder: Path, python: Sequence[str], extra_arguments: Sequence[str] = ()) -> None:
    """Write a kernel spec whose kernel `python` starts: conftest's `warm_python`, which has imported the package."""
    command = [*python, "-m", "ipykernel_launcher", "-f", "{connection_file}", *extra_arguments]
    write_kernel_spec(folder, overrides={"argv": command})


def warm_project(folder: Path, monkeypatch: pytest.MonkeyPatch, python: Sequence[str]) -> Path:
    """A made-up project whose runs take such kernels; their limits of time judge no kernel that computes."""
    monkeypatch.setattr(runner, "write_kernel_spec", partial(write_warm_kernel, python=python))
    return made_up_project(folder, monkeypatch)


def notebook(stem: str = STEM, code: Sequence[str] = (WRITE,), parameters: str = PARAMETERS) -> Path:
    cells = [new_markdown_cell("# Prose"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(f"STEM = {stem!r}"), *(new_code_cell(text) for text in code), new_code_cell("")]
    path = notebook_path(stem)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "x"}}), path)
    return path


def reproduce(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reproduce", *arguments])


def statuses(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output
    return [word for word in done.output.split() if word in ("ran", "skipped", "failed")]
