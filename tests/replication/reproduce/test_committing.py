"""What a run leaves alone, what --commit replaces, and what it refuses before any run."""

import hashlib
import json
import os
from pathlib import Path

import pandas
import pytest
from small_notebooks import STEM, WRITE, WRITE_ALL, notebook, reproduce, statuses, warm_project

from mome.replication.notebook.results import Destination, read_result, result_path
from mome.replication.reproduce.committing import commit
from mome.replication.reproduce.plans import make_plans

ALL = (WRITE_ALL, WRITE)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: list[str]) -> Path:
    return warm_project(tmp_path, monkeypatch, warm_python)


def tracked(root: Path) -> dict[str, str]:
    """Every file that git would see, with its hash."""
    files = [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != "runs"]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_writes_to_the_work_folder_alone_and_commit_replaces_the_whole_result(root: Path) -> None:
    notebook(code=ALL)
    before = tracked(root)
    assert statuses(reproduce()) == ["ran"]
    assert tracked(root) == before
    done = reproduce("--commit")
    assert statuses(done) == ["skipped"]
    names = [f"{STEM}.csv", f"{STEM}.json", f"{STEM}_seeds.csv"]
    assert tracked(root).keys() - before.keys() == {
        *(f"data/results/tiny/{name}" for name in names),
        *("figures/manifest.json", f"figures/{STEM}.png"),
    }
    fresh, committed = Destination.fresh("tiny", STEM), Destination.committed(STEM)
    for name in (*names, f"{STEM}.png"):
        assert committed.place(name).read_bytes() == fresh.place(name).read_bytes()
    entry = json.loads((root / "figures" / "manifest.json").read_text("utf-8"))[STEM]
    assert entry == {
        "notebook": f"notebooks/{STEM}.ipynb",
        "result": f"data/results/tiny/{STEM}.json",
        "png_sha256": hashlib.sha256(committed.figure("png").read_bytes()).hexdigest(),
    }
    assert statuses(reproduce()) == ["skipped"]  # its own tables, now committed, are none that it reads


def test_another_run_leaves_the_committed_result_until_it_is_committed_too(root: Path) -> None:
    notebook(code=ALL)
    assert reproduce("--commit").exit_code == 0
    before = tracked(root)
    done = reproduce("-p", "{lr: 0.5}")
    assert statuses(done) == ["ran"] and tracked(root) == before
    assert f"{STEM} loss: 0.5, committed 0.002 (0 to 0.002): other lr" in done.output
    done = reproduce("-p", "{lr: 0.5}", "--commit")
    assert "1 different" in done.output  # compared with what was committed before
    assert read_result(result_path("tiny", STEM)).config["lr"] == 0.5
    assert pandas.read_csv(Destination.committed(STEM).table())["lr"].tolist() == [0.5]
    assert "different" not in reproduce("-p", "{lr: 0.5}").output


def test_a_figure_of_another_notebook_keeps_its_entry_and_a_kept_table_stays(root: Path) -> None:
    (root / "figures").mkdir()
    (root / "figures" / "manifest.json").write_text('{"07_other": {"png_sha256": "0"}}', "utf-8")
    kept = Destination.committed(STEM).table("methods")
    kept.parent.mkdir(parents=True)
    kept.write_text("method\nlora\n", "utf-8")
    notebook(code=ALL)
    assert reproduce("--commit").exit_code == 0
    manifest = json.loads((root / "figures" / "manifest.json").read_text("utf-8"))
    assert list(manifest) == [STEM, "07_other"]
    assert kept.read_text("utf-8") == "method\nlora\n"


@pytest.mark.parametrize("field", ["seeds", "backbones"])
def test_a_run_with_fewer_seeds_or_backbones_is_refused_before_it_starts(field: str, root: Path) -> None:
    notebook(code=ALL)
    more = {"seeds": "{seeds: [0, 1, 2]}", "backbones": "{backbones: [tiny-llama, tiny-mistral]}"}[field]
    for name in ("tiny-llama", "tiny-mistral"):
        (root / "data" / "backbones" / name).mkdir(parents=True)
        (root / "data" / "backbones" / name / "config.json").write_text("{}", "utf-8")
    assert reproduce("--commit", "-p", more).exit_code == 0
    before = tracked(root)
    stamp = (root / "runs" / "tiny" / f"{STEM}.stamp.json").read_bytes()
    done = reproduce("--commit")
    assert done.exit_code == 2
    assert f"{STEM} has 1 of {3 if field == 'seeds' else 2} {field}" in done.output
    assert "--commit-fewer" in done.output
    assert (root / "runs" / "tiny" / f"{STEM}.stamp.json").read_bytes() == stamp
    assert tracked(root) == before
    assert reproduce().exit_code == 0 and tracked(root) == before
    assert reproduce("--commit-fewer").exit_code == 0
    assert len(read_result(result_path("tiny", STEM)).config[field]) == 1


def test_results_of_other_profiles_are_never_committed(root: Path) -> None:
    notebook(code=ALL)
    done = reproduce("--commit", "--profile", "smoke")
    assert done.exit_code == 2
    assert "only results of the profiles tiny and small are committed; those of 'smoke' stay in" in done.output
    assert not (root / "runs").exists()


def test_a_committed_result_that_is_damaged_is_named_and_stays(root: Path) -> None:
    notebook(code=ALL)
    path = result_path("tiny", STEM)
    path.parent.mkdir(parents=True)
    path.write_text("{}", "utf-8")
    for options in ((), ("--commit",)):
        done = reproduce(*options)
        assert done.exit_code == 2 and f"error: {path}: field" in done.output
        assert path.read_text("utf-8") == "{}"


def test_a_table_that_the_accepted_run_did_not_write_is_not_committed(root: Path) -> None:
    notebook(code=ALL)
    assert reproduce().exit_code == 0
    Destination.fresh("tiny", STEM).table("older").write_text("left by an earlier version", "utf-8")
    assert reproduce("--force", "--commit").exit_code == 0
    assert not Destination.committed(STEM).table("older").exists()


def test_a_commit_that_was_cut_off_is_finished_by_the_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook(code=ALL)
    assert reproduce().exit_code == 0
    (plan,) = make_plans("tiny", [], {})
    replace, done = os.replace, []

    def dying(path: Path, target: Path) -> None:
        if len(done) == 2:
            raise OSError("No space left on device")
        done.append(target)
        replace(path, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(OSError, match="No space left"):
        commit(plan)
    monkeypatch.undo()
    assert len(done) == 2 and not any(path.name == f"{STEM}.json" for path in done)
    monkeypatch.setenv("MOME_ROOT", str(root))
    commit(plan)
    assert read_result(result_path("tiny", STEM)) == read_result(plan.destination.json)
