"""The notebook runner, on small notebooks in a temporary root: what is refused, skipped, run again and reported."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from small_notebooks import STEM, WRITE, notebook, reproduce, statuses, warm_project

from mome.replication.notebook.parameters import (
    ParameterError,
    default_parameters,
    notebook_path,
    parameters_from,
    resolve,
)
from mome.replication.notebook.results import Destination, read_result
from mome.replication.reproduce.order import longest_first
from mome.replication.reproduce.plans import finished, make_plans
from mome.replication.reproduce.runner import own_threads


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: list[str]) -> Path:
    return warm_project(tmp_path, monkeypatch, warm_python)


def test_defaults_come_from_the_tagged_cell() -> None:
    assert default_parameters(notebook()) == {
        "profile": "tiny",
        "seeds": [0],
        "backbones": ["tiny-llama"],
        "facts": 128,
        "lr": 0.002,
        "exact": True,
        "layers": [1, 2],
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("facts = 2 * 64", "must be a literal"),
        ("import os", "expected `name = value`"),
        ("facts: int = 1", "expected `name = value`"),
        ("_facts = 1", "expected `name = value`"),
        ("a = b = 1", "expected `name = value`"),
        ("facts = None", "must be a bool, int"),
        ("facts = []", "must be a bool, int"),
        ("facts = [1, 'a']", "must be a bool, int"),
        ("facts = 1\nfacts = 2", "set twice"),
        ("facts = (", "line 4"),
    ],
)
def test_parameter_cell_holds_plain_lines_only(line: str, complaint: str) -> None:
    path = notebook(parameters="profile = 'tiny'\nseeds = [0]\nbackbones = ['a']\n" + line)
    with pytest.raises(ParameterError, match=complaint) as caught:
        default_parameters(path)
    assert f"{path}: parameter cell, line" in str(caught.value)


def test_required_parameters_and_one_tagged_cell() -> None:
    with pytest.raises(ParameterError, match=r"backbones: list\[str\] is required"):
        default_parameters(notebook(parameters="profile = 'tiny'\nseeds = [0]"))
    path = notebook_path("02_tab1_untagged")
    nbformat.write(new_notebook(cells=[new_code_cell("a = 1")]), path)
    with pytest.raises(ParameterError, match="exactly one code cell"):
        default_parameters(path)
    path.write_text("not a notebook", "utf-8")
    with pytest.raises(ParameterError, match=f"{path}: not a notebook"):
        default_parameters(path)


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("{fact: 8}", "unknown parameter 'fact'"),
        ("{facts: many}", "'facts': Input should be a valid integer, got 'many'"),
        ("{facts: true}", "'facts': Input should be a valid integer, got True"),
        ("{facts: 8.0}", "'facts': Input should be a valid integer, got 8.0"),
        ("{exact: 1}", "'exact': Input should be a valid boolean, got 1"),
        ("{lr: true}", "'lr': Input should be a valid number, got True"),
        ("{lr: .nan}", "'lr': Input should be a finite number, got nan"),
        ("{layers: [1, x]}", "'layers.1': Input should be a valid integer, got 'x'"),
        ("{layers: 1}", "'layers': Input should be a valid list, got 1"),
        ("{seeds: []}", "'seeds': List should have at least 1 item"),
        ("{seeds: [1, 1]}", "seeds holds a value twice"),
        ("{profile: small}", "set by --profile"),
        ("[1]", "expected a mapping"),
        ("{a: ", "not YAML"),
    ],
)
def test_wrong_parameters_are_refused_before_any_kernel(yaml: str, complaint: str, root: Path) -> None:
    notebook()
    done = reproduce("-p", yaml)
    assert done.exit_code == 2
    assert complaint in done.output
    assert not (root / "runs").exists()


def test_refusal_lists_the_valid_parameters_and_an_int_is_taken_for_a_float() -> None:
    notebook()
    output = reproduce("-p", "{fact: 8}").output
    for line in ("facts: int = 128", "lr: float = 0.002", "exact: bool = True", "layers: list[int] = [1, 2]"):
        assert line in output
    assert repr(resolve("tiny", STEM, {"lr": 1})["lr"]) == "1.0"


def test_unknown_notebook_or_profile_is_refused() -> None:
    notebook()
    notebook("02_tab1_other")
    done = reproduce("--only", "03_none")
    assert done.exit_code == 2
    assert f"unknown notebook '03_none'; valid: {STEM}, 02_tab1_other" in done.output
    with pytest.raises(ParameterError, match="unknown profile 'huge'; valid: smoke, tiny, small, paper"):
        make_plans("huge", [], {})
    assert reproduce("--profile", "huge").exit_code == 2


def test_profiles_and_options_are_layered(root: Path) -> None:
    notebook()
    notebook("02_tab1_other")
    text = f'[smoke.all]\nfacts = 8\nlr = 0.5\n[smoke."{STEM}"]\nfacts = 4\n'
    (root / "notebooks" / "profiles.toml").write_text(text, "utf-8")
    good, other = make_plans("smoke", [], {"seeds": [0, 1, 2]})
    assert (good.parameters["facts"], other.parameters["facts"], good.parameters["lr"]) == (4, 8, 0.5)
    assert (good.parameters["profile"], good.parameters["seeds"]) == ("smoke", [0, 1, 2])
    assert resolve("smoke", STEM, {"facts": 2})["facts"] == 2
    assert resolve("tiny", STEM, {})["facts"] == 128


@pytest.mark.parametrize("text", ["[huge.all]\n", '[smoke."03_none"]\n', "[smoke", "[smoke.all]\nfact = 1\n"])
def test_bad_profiles_file_is_refused_by_name(text: str, root: Path) -> None:
    notebook()
    (root / "notebooks" / "profiles.toml").write_text(text, "utf-8")
    done = reproduce("--profile", "smoke")
    assert done.exit_code == 2
    assert "profiles.toml" in done.output or "unknown parameter 'fact'" in done.output


def test_parameters_from_reads_the_namespace() -> None:
    notebook()
    namespace = {**default_parameters(notebook_path(STEM)), "facts": 3, "other": object()}
    assert parameters_from(STEM, namespace)["facts"] == 3
    with pytest.raises(ParameterError, match="facts"):
        parameters_from(STEM, {**namespace, "facts": "3"})


def test_runs_skips_forces_and_does_not_skip_changed_code(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoy = root / "decoy" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}', "utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(root / "decoy"))
    notebook()
    first = reproduce()
    assert first.exit_code == 0, first.output
    assert read_result(Destination.fresh("tiny", STEM).json).environment.python == sys.executable
    assert os.environ["JUPYTER_PATH"] == str(root / "decoy")
    executed = nbformat.read(root / "runs" / "tiny" / f"{STEM}.ipynb", as_version=4)
    assert executed.cells[-2].execution_count == 4
    assert statuses(reproduce()) == ["skipped"]
    assert statuses(reproduce("--force")) == ["ran"]
    assert finished(make_plans("tiny", [], {})[0])
    assert not finished(make_plans("tiny", [], {"facts": 4})[0])
    notebook(code=("# another way", WRITE))
    assert not finished(make_plans("tiny", [], {})[0])
    notebook()
    assert finished(make_plans("tiny", [], {})[0])
    Destination.fresh("tiny", STEM).json.unlink()
    assert not finished(make_plans("tiny", [], {})[0])


def test_a_kept_table_that_changed_is_read_again(root: Path) -> None:
    notebook()
    table = root / "data" / "results" / "tiny" / f"{STEM}_runs.csv"
    table.parent.mkdir(parents=True)
    table.write_text("seed\n0\n", "utf-8")
    assert [statuses(reproduce()), statuses(reproduce())] == [["ran"], ["skipped"]]
    table.write_text("seed\n0\n1\n", "utf-8")
    assert [statuses(reproduce()), statuses(reproduce())] == [["ran"], ["skipped"]]
    (table.parent / "02_another_runs.csv").write_text("seed\n", "utf-8")
    assert statuses(reproduce()) == ["skipped"]


def test_sources_and_data_are_part_of_the_inputs(root: Path) -> None:
    notebook()
    before = make_plans("tiny", [], {})[0].inputs
    assert make_plans("tiny", [], {})[0].inputs == before
    for name in ("mome/train/tuning.py", "kernels/mome_kernels/triton.py", "data/facts/elements.csv"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("changed", "utf-8")
        after = make_plans("tiny", [], {})[0].inputs
        assert after != before
        before = after


def test_failures_are_named_and_the_others_finish(root: Path) -> None:
    notebook()
    notebook("02_raises", ["answer = 1 / 0", WRITE])
    notebook("03_dies", ["import os; os._exit(3)", WRITE])
    notebook("04_silent", ["pass"])
    notebook("05_drifts", ["facts = 3", WRITE])
    done = reproduce("--jobs", "2")
    assert done.exit_code == 1
    assert "ZeroDivisionError: division by zero" in done.output
    assert "answer = 1 / 0" in done.output
    assert "Kernel died" in done.output
    assert "04_silent.json was not written" in done.output
    assert "field config: is" in done.output
    assert [done.output.count(f"FAILED {number:02d}_") for number in range(1, 6)] == [0, 1, 1, 1, 1]
    assert read_result(Destination.fresh("tiny", STEM).json).metrics["loss"].value == 0.002
    assert [path.name for path in (root / "runs" / "tiny").glob("*.stamp.json")] == [f"{STEM}.stamp.json"]


def test_the_longest_notebooks_start_first_and_each_core_runs_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, seconds in ((1, 5.0), (2, 90.0), (3, 40.0)):
        stem = f"0{number}_fig{number}_any"
        notebook(stem, [WRITE.replace("seconds=0.1", f"seconds={seconds}")])
        assert reproduce("--only", stem, "--commit").exit_code == 0
    notebook("04_new")
    started = [plan.stem[:2] for plan in longest_first(make_plans("tiny", [], {}))]
    assert started == ["02", "03", "01", "04"]
    asked = []
    monkeypatch.setattr("mome.replication.reproduce.runner._outcomes", lambda plans, jobs, *_: asked.append(jobs) or [])
    monkeypatch.setattr("mome.replication.reproduce.runner.usable_cores", lambda: 3)
    for only in ([], ["--only", "04_new"], ["--jobs", "2"]):
        reproduce(*only)
    assert asked == [3, 1, 2]


def test_a_kernel_gets_one_thread_or_its_share_and_the_user_overrules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mome.replication.reproduce.runner.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert own_threads("tiny", 1) == own_threads("smoke", 4) == {"OMP_NUM_THREADS": "1"}
    assert own_threads("small", 2) == {"OMP_NUM_THREADS": "4"} and own_threads("paper", 9) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert own_threads("tiny", 1) == {}


def test_the_kernel_runs_with_these_threads_and_the_process_keeps_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    note = "import os, pathlib; pathlib.Path('threads').write_text(os.environ['OMP_NUM_THREADS'])"
    notebook(STEM, [note, WRITE])
    assert reproduce().exit_code == 0
    assert (root / "notebooks" / "threads").read_text("utf-8") == "1" and "OMP_NUM_THREADS" not in os.environ
