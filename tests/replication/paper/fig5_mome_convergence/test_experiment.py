"""The kept table of ablations: one row a run, measured again in place, and refused where it cannot be."""

import pandas
import pytest
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.shipped import shipped_facts
from mome.replication.experiments.plan import Recipe
from mome.replication.paper.fig5_mome_convergence import experiment as ablations


@pytest.fixture
def small(monkeypatch, backbone_folder):
    """The command at a size that a test can pay, on three shipped facts."""
    quick = Recipe().but(mome={"num_experts": 64, "top_k": 4}, memory={"epochs": 2}, router_questions=20)
    monkeypatch.setattr(ablations, "drawn_facts", lambda name, facts, seed: shipped_facts("unknown")[:facts])
    monkeypatch.setattr(ablations, "Recipe", lambda: quick.but(router={"steps": 2}))
    monkeypatch.setattr(ablations, "EXPERTS", 64)
    monkeypatch.setattr(ablations, "EPOCHS", 2)
    return [f"--backbone={backbone_folder}", "--facts=2", "--drawn=3", "--general=3"]


@pytest.fixture
def command():
    return lambda *words: CliRunner().invoke(app, ["table", "ablations", *(str(word) for word in words)])


def test_rows_are_kept_with_their_place_and_replaced(command, small, tmp_path, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    table = tmp_path / "table.csv"
    assert command(table, *small, "--recipe=as built", "--recipe=k = 1").exit_code == 0
    first = pandas.read_csv(table)
    assert sorted(first["recipe"]) == ["as built", "k = 1"] and set(first["seed"]) == {0}
    assert first["command"].str.startswith("mome table ablations ").all() and first["commit"].notna().all()
    assert command(table, *small, "--recipe=k = 1").exit_code == 0
    again = pandas.read_csv(table)
    assert len(again) == 2 and again["recall"].tolist() == first["recall"].tolist()


def test_an_unknown_ablation_is_refused(command, small, tmp_path):
    done = command(tmp_path / "table.csv", *small, "--recipe=no backbone")
    assert done.exit_code == 2 and "error: ablation 'no backbone' is not one of as built" in done.output
    assert not (tmp_path / "table.csv").exists()
