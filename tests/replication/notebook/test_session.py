"""A session checks the parameters first, and writes table, figure and result to the places of its profile."""

from pathlib import Path

import matplotlib.pyplot as pyplot
import pandas
import pytest
from small_notebooks import PARAMETERS, STEM, made_up_project, notebook

from mome.replication.notebook.parameters import ParameterError
from mome.replication.notebook.results import Claim, Metric, read_result
from mome.replication.notebook.session import Session

ROOT = Path(__file__).resolve().parents[3]
METRICS = {"loss": Metric(value=0.002, unit="nats/token", n=128)}


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    made_up_project(tmp_path, monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "claims.csv").symlink_to(ROOT / "data" / "claims.csv")
    notebook()
    values: dict[str, object] = {"unrelated": object()}
    exec(PARAMETERS, values)
    return values


def test_a_run_leaves_its_result_tables_and_figure(namespace: dict[str, object], tmp_path: Path):
    session = Session.start(STEM, namespace | {"profile": "smoke", "seeds": [3]})
    session.save_table(pandas.DataFrame({"loss": [0.5]}))
    session.save_table(pandas.DataFrame({"seed": [3]}), "seeds")
    session.save_figure(pyplot.figure(figsize=(1, 1)))
    claims = [Claim(id="C01", paper="near zero", measured="0.002", verdict="reproduced", why="under 0.05")]
    path = session.write(METRICS, claims)
    found = read_result(path)
    assert (found.profile, found.seeds, found.metrics, found.claims) == ("smoke", [3], METRICS, claims)
    assert found.config == session.config
    assert 0 < found.seconds < 600
    folder = tmp_path / "runs" / "smoke"
    names = {f"results/{STEM}{end}" for end in (".json", ".csv", "_seeds.csv")}
    assert {str(each.relative_to(folder)) for each in folder.rglob("*.*")} == names | {
        f"figures/{STEM}.{suffix}" for suffix in ("png", "pdf")
    }


def test_a_result_without_claims_has_none(namespace: dict[str, object]):
    assert read_result(Session.start(STEM, namespace).write(METRICS)).claims == []


def test_a_wrong_parameter_stops_the_run_at_its_start(namespace: dict[str, object]):
    with pytest.raises(ParameterError, match="facts"):
        Session.start(STEM, namespace | {"facts": "many"})


def test_a_committed_table_is_that_of_the_tiny_profile_whatever_runs(namespace: dict[str, object], tmp_path: Path):
    session = Session.start(STEM, namespace | {"profile": "smoke"})
    assert session.committed_table("table") == tmp_path / "data" / "results" / "tiny" / f"{STEM}_table.csv"
