"""Figures show the data they are given, with units, the paper's value and a colour-blind safe palette."""

import hashlib
import json
from pathlib import Path

import numpy
import pandas
import pytest
from matplotlib.figure import Figure

from mome.replication.notebook.results import Destination
from mome.replication.notebook.style import headline, save_figure, seed_count, span
from mome.replication.paper.fig1_random_vs_real.figure import loss_curves
from mome.replication.paper.tab1_regularization.figure import regularization

ROOT = Path(__file__).resolve().parents[3]


def test_numbers_are_named_once_or_by_their_ends():
    assert [span(numbers) for numbers in ([1_000, 1_000], (400, 119, 300), [])] == ["1,000", "119 to 400", "0"]
    assert [seed_count(numbers) for numbers in ([1, 1], [3], [1, 3, 2])] == ["1 seed", "3 seeds", "1 to 3 seeds"]


def test_a_finding_is_broken_into_lines_of_equal_length_that_fit_the_figure():
    figure = Figure(figsize=(4, 3))
    headline(figure, "one two three " * 5)
    lines = figure.get_suptitle().splitlines()
    assert max(map(len, lines)) <= 44 and max(map(len, lines)) - min(map(len, lines)) < 6
    assert " ".join(lines) == ("one two three " * 5).strip()


@pytest.fixture
def curves() -> pandas.DataFrame:
    rows = [
        {
            "backbone": backbone,
            "dataset": "shipped",
            "answers": answers,
            "seed": seed,
            "epoch": epoch,
            "loss": 4 / epoch,
        }
        for backbone in ("one", "two")
        for answers in ("real", "random")
        for seed in (0, 1)
        for epoch in range(1, 5 + seed)
    ]
    return pandas.DataFrame(rows)


@pytest.fixture
def sweep() -> pandas.DataFrame:
    rows = [
        {"backbone": "one", "seed": seed, "kind": kind, "value": value, "general_accuracy": value / 10 + seed / 100}
        for kind in ("rank", "learning rate")
        for value in (1.0, 2.0)
        for seed in (0, 1)
    ]
    return pandas.DataFrame(rows)


def test_loss_curves_have_a_panel_for_each_backbone_with_units_and_the_papers_level(curves):
    figure = loss_curves(curves, threshold=0.05)
    assert [axis.get_title() for axis in figure.axes] == ["one, shipped facts", "two, shipped facts"]
    axis = figure.axes[0]
    assert "nats/token" in axis.get_ylabel() and axis.get_xlabel() == "epoch"
    (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {0.05}


def test_the_thick_curve_is_the_mean_over_seeds_and_a_stopped_run_stays_at_its_last_loss(curves):
    axis = loss_curves(curves, threshold=0.05).axes[0]
    (mean,) = [line for line in axis.lines if line.get_label().startswith("real answers (n = 2")]
    assert numpy.allclose(mean.get_ydata(), [4, 2, 4 / 3, 1, (1 + 4 / 5) / 2])


def test_the_sweep_figure_shows_means_ranges_and_the_untouched_backbone(sweep):
    before = pandas.DataFrame({"general_accuracy": [0.9, 0.8]})
    figure = regularization(before, before - 0.1, sweep, ["general_accuracy"])
    axis = figure.axes[0]
    (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert numpy.allclose(dashed.get_ydata(), 0.85)
    points = next(line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o")
    assert numpy.allclose(points.get_ydata(), [0.105, 0.205])


def test_the_sweeps_title_says_what_became_of_the_first_measure(sweep):
    before = pandas.DataFrame({"general_accuracy": [0.9, 0.8]})
    title = " ".join(regularization(before, before - 0.1, sweep, ["general_accuracy"]).get_suptitle().split())
    assert "is 0.85 untouched (the paper: unchanged), 0.75 after real answers, and 0.11 to 0.21" in title
    assert "in all 4 settings (2 seeds)" in title


def test_a_figure_is_saved_as_png_and_pdf_where_it_belongs_and_nowhere_else(curves, tmp_path):
    save_figure(loss_curves(curves, threshold=0.05), Destination("01_x", tmp_path / "results", tmp_path / "figures"))
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["01_x.pdf", "01_x.png"]
    assert (tmp_path / "figures" / "01_x.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "results").exists()


def test_the_committed_figures_are_those_of_the_manifest():
    """What the manifest names is there, unchanged, and nothing else is."""
    manifest = json.loads((ROOT / "figures" / "manifest.json").read_text())
    folder = ROOT / "figures"
    places = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.png")}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in places.items()}
    assert found == {name: entry["png_sha256"] for name, entry in manifest.items()}
    for entry in manifest.values():
        assert (ROOT / entry["notebook"]).is_file() and (ROOT / entry["result"]).is_file()
