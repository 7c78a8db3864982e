"""Values of the right type that cannot work are refused, with what is allowed, before any kernel starts."""

from pathlib import Path
from typing import Any

import pytest
from small_notebooks import STEM, made_up_project, notebook, reproduce
from typer.testing import CliRunner

from mome.cli import app
from mome.replication.experiments.plan import Recipe
from mome.replication.notebook.parameter_ranges import BOUNDS, OWN_BOUNDS, OneOf, bound_of, out_of_range
from mome.replication.notebook.parameters import (
    ParameterError,
    all_stems,
    default_parameters,
    notebook_path,
    parameters_from,
    resolve,
)
from mome.replication.notebook.results import PROFILES
from mome.replication.paper.fig5_mome_convergence.experiment import ablations
from mome.replication.paper.sec4_explanations.conditions import CONDITIONS
from mome.replication.paper.sec4_retrieval.workshop import METHODS

# any text will do, or the command line decides
FREE = {"profile", "question", "answer", "phrasings", "other_words"}


def complaint(stem: str, changes: dict[str, Any]) -> str:
    with pytest.raises(ParameterError) as caught:
        resolve("tiny", stem, changes)
    return str(caught.value)


def test_every_parameter_has_a_bound_that_its_values_in_all_profiles_keep() -> None:
    for stem in all_stems():
        defaults = default_parameters(notebook_path(stem))
        unbound = {name for name, value in defaults.items() if not isinstance(value, bool) and not bound_of(stem, name)}
        assert unbound <= FREE, stem
        for profile in PROFILES:
            resolve(profile, stem, {})


def test_every_bound_is_of_a_parameter() -> None:
    used = {(stem, name) for stem in all_stems() for name in default_parameters(notebook_path(stem))}
    assert OWN_BOUNDS.keys() <= used
    assert BOUNDS.keys() <= {name for _, name in used}


def test_the_names_are_those_of_the_code() -> None:
    assert BOUNDS["live_methods"] == OneOf(METHODS)
    assert BOUNDS["causes"] == OneOf(CONDITIONS)
    assert BOUNDS["live_ablations"] == OneOf(tuple(ablations(Recipe())))


@pytest.mark.parametrize(
    ("stem", "changes", "allowed"),
    [
        ("11_sec7_scaling", {"facts": -3}, "parameter 'facts': got -3, allowed: from 1 to 7,259"),
        ("06_fig5_mome_convergence", {"facts": 10**9}, "got 1000000000, allowed: from 1 to 7,259 (the facts that are"),
        ("00_start_here", {"facts": 3_000}, "from 1 to 2,367 (the shipped known facts)"),
        ("14_sec4_explanations", {"facts": 4_000}, "from 1 to 3,629 (half of the shipped unknown facts)"),
        ("01_fig1_random_vs_real", {"facts": 900, "datasets": ["truthfulqa"]}, "from 1 to 817"),
        ("02_tab1_regularization", {"learning_rate": -1}, "got -1.0, allowed: above 0, at most 1"),
        ("02_tab1_regularization", {"learning_rates": [0.1, 0.0]}, "'learning_rates': got 0.0, allowed: above 0"),
        ("03_fig2_pretraining_loss", {"epochs": 0}, "parameter 'epochs': got 0, allowed: from 1 to 100,000"),
        ("04_fig3_entropy", {"seeds": [0, -1]}, "parameter 'seeds': got -1, allowed: from 0 to 4,294,967,295"),
        ("04_fig3_entropy", {"seeds": [2**32]}, "got 4294967296"),
        ("06_fig5_mome_convergence", {"num_experts": 0}, "from 32 to 1,073,741,824, a product of two numbers of"),
        ("06_fig5_mome_convergence", {"large": 1_000_003}, "a product of two numbers of similar size"),
        ("05_fig4_architecture", {"top_k": 100_000_000}, "from 1 to 65,536 (num_experts)"),
        ("12_sec7_kernels", {"top_k": 9, "num_experts": 8}, "from 1 to 8 (num_experts)"),
        ("05_fig4_architecture", {"layers": [2, 4]}, "'layers': got 4, allowed: from 0 to 3 (the last layer of"),
        ("05_fig4_architecture", {"target_modules": ["gate"]}, "got 'gate', allowed: one of q_proj"),
        ("02_tab1_regularization", {"top_layers": [5]}, "from 1 to 4 (the layers of the backbone)"),
        ("07_fig6_memory_tuning", {"answers": ["made up"]}, "one of real, random, shuffled"),
        ("09_sec4_retrieval", {"false_alarms": [1.5]}, "got 1.5, allowed: from 0 to 1"),
        ("16_sec10_editing", {"stop_loss": 0.0}, "got 0.0, allowed: above 0, at most 100"),
        ("08_sec1_cost", {"backbones": ["nonexistent"]}, "a name (tiny-llama, tiny-mistral, smollm2-135m), a folder"),
    ],
)
def test_a_value_out_of_range_is_refused_with_notebook_name_value_and_range(
    stem: str, changes: dict[str, Any], allowed: str
) -> None:
    said = complaint(stem, changes)
    assert said.startswith(f"{notebook_path(stem)}: parameter ")
    assert allowed in said and "\n" not in said


def test_the_ends_of_a_range_are_taken_and_zero_where_it_means_none() -> None:
    assert resolve("tiny", "01_fig1_random_vs_real", {"stop_loss": 0.0, "facts": 7_259, "seeds": [2**32 - 1]})
    assert resolve("tiny", "05_fig4_architecture", {"top_k": 65_536, "router_steps": 0, "layers": [0]})
    assert resolve("tiny", "09_sec4_retrieval", {"facts": 10_000})  # made-up facts follow the shipped ones


def test_a_bound_that_is_not_known_is_left_out_and_another_type_is_not_judged() -> None:
    on_the_hub = {"backbones": ["owner/name"]}
    assert resolve("tiny", "05_fig4_architecture", {**on_the_hub, "layers": [70], "target_modules": ["c_fc"]})
    said = complaint("05_fig4_architecture", {**on_the_hub, "layers": [-1]})
    assert said.endswith("parameter 'layers': got -1, allowed: at least 0")
    assert list(out_of_range("99_made_up", {"facts": True, "other": "text", "general": 0})) == [
        "parameter 'general': got 0, allowed: from 1 to 2,367 (the shipped known facts)"
    ]


def test_a_notebook_under_plain_papermill_refuses_them_too() -> None:
    stem = "11_sec7_scaling"
    namespace = {**default_parameters(notebook_path(stem)), "facts": 0}
    with pytest.raises(ParameterError, match="parameter 'facts': got 0, allowed: from 1"):
        parameters_from(stem, namespace)


def test_the_command_refuses_with_one_line_and_code_2_before_a_kernel_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made_up_project(tmp_path, monkeypatch)
    notebook()
    done = reproduce("-p", "{facts: 0}")
    assert done.exit_code == 2
    assert done.output.splitlines()[0].startswith(f"error: {notebook_path(STEM)}: parameter 'facts': got 0, allowed:")
    assert len(done.output.splitlines()) == 1
    assert not (root / "runs").exists()
    assert CliRunner().invoke(app, ["reproduce", "--seeds", "1000000000000"]).exit_code == 2


def test_a_backbone_may_be_a_folder_or_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = "01_fig1_random_vs_real"
    assert resolve("tiny", stem, {"backbones": ["some-owner/some_model.v2"]})["backbones"] == [
        "some-owner/some_model.v2"
    ]
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "a folder with a config.json" in complaint(stem, {"backbones": ["mine"]})
    (tmp_path / "mine" / "config.json").write_text('{"num_hidden_layers": 2}', "utf-8")
    assert resolve("tiny", stem, {"backbones": ["mine"]})["backbones"] == [str(tmp_path / "mine")]
    changes = {"backbones": ["mine", "tiny-llama"], "top_layers": [3]}
    assert "from 1 to 2 (the layers" in complaint("02_tab1_regularization", changes)
