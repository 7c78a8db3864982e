"""The order of the runs: longest first, and none beside a notebook that trains the same LoRA runs."""

from pathlib import Path

import pytest
from small_notebooks import WRITE, notebook, reproduce, warm_project

from mome.replication.notebook.parameters import profile_stems
from mome.replication.reproduce.order import TAKES_RUNS_OF, first_ready, longest_first
from mome.replication.reproduce.plans import make_plans

SOURCE, TAKERS = "01_fig1_random_vs_real", ["02_tab1_regularization", "06_fig5_mome_convergence"]


def test_the_notebooks_that_share_runs_are_there() -> None:
    assert {*TAKES_RUNS_OF, *TAKES_RUNS_OF.values()} <= {*profile_stems("tiny", [])}
    assert not {*TAKES_RUNS_OF} & {*TAKES_RUNS_OF.values()}  # none waits for one that waits itself


def test_a_notebook_waits_for_the_one_that_trains_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: list[str]
) -> None:
    warm_project(tmp_path, monkeypatch, warm_python)
    for stem, seconds in ((SOURCE, 20.0), (TAKERS[0], 50.0), (TAKERS[1], 60.0), ("07_fig7_other", 70.0)):
        notebook(stem, [WRITE.replace("seconds=0.1", f"seconds={seconds}")])
        assert reproduce("--only", stem, "--commit").exit_code == 0
    source, other, taker, second = plans = longest_first(make_plans("tiny", [], {}))  # the source: 20 s and 60 behind
    assert [plan.stem for plan in plans] == [SOURCE, "07_fig7_other", *reversed(TAKERS)]
    assert first_ready(plans, []) is source
    assert first_ready([other, taker, second], [source]) is other
    assert first_ready([taker, second], [source, other]) is None
    assert first_ready([taker, second], [other]) is taker and first_ready([second], [taker]) is second
    assert first_ready([], [source]) is None


def test_all_run_though_some_have_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: list[str]
) -> None:
    root = warm_project(tmp_path, monkeypatch, warm_python)
    left = root / "source.done"
    notebook(SOURCE, ["import time\ntime.sleep(2)", WRITE, f"open({str(left)!r}, 'w').close()"])
    for stem in TAKERS:
        notebook(stem, [f"open({str(left)!r}).close()", WRITE])
    done = reproduce("--jobs", "3")
    assert done.exit_code == 0, done.output
