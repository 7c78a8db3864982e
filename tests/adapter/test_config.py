"""MomeConfig refuses values that cannot work, by the field's name and the value."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig, get_peft_model

import mome
from mome.adapter.config import balanced_factor
from mome.adapter.model import MomeConfig
from mome.lm.loading import load_backbone
from mome.replication.experiments.plan import Recipe


def test_the_package_offers_it() -> None:
    assert mome.MomeConfig is MomeConfig
    with pytest.raises(AttributeError, match="nothing"):
        _ = mome.nothing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (field, value)
            for field in ("num_experts", "top_k", "rank", "key_size", "router_heads")
            for value in (0, -1)
        ),
        *((field, value) for field in ("num_experts", "rank", "seed") for value in (1.0, True, "8", None)),
        *product(("router_layer",), (1.0, True, "8")),
        *product(("router_layer", "seed"), (-1,)),
        *product(("scale", "init_scale"), (0, -1.0, None, "1", float("nan"))),
        ("top_k", 65_537),
        ("num_experts", 65_537),  # a prime number has no product keys
        ("key_size", 15),
        ("index", "hnsw"),
        ("dtype", "float16"),
        ("temperature", 0.0),
        ("temperature", "hot"),
        ("min_score", 1.5),
        ("least_names", 0.0),
        ("least_names", 1.5),
        ("least_names", True),
        ("min_score", float("nan")),
        ("snap", None),
        ("storage", 3),
        ("target_modules", []),
        ("target_modules", [1]),
        ("target_modules", ""),
        *(("layers_to_transform", value) for value in ([], [-1], [1.0], ["1"], 1, "all", (1,))),
        ("task_type", "SEQ_CLS"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        MomeConfig(**{field: value})
    assert str(caught.value).startswith(f"MomeConfig: {field} must be ")
    assert str(caught.value).endswith(f", got {value!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_experts": 1_000_000},
        {"num_experts": 65_537, "index": "flat"},
        {"num_experts": 32, "top_k": 32, "index": "flat", "key_size": 15, "temperature": None},
        {"target_modules": ".*gate_proj", "layers_to_transform": None},
        {"target_modules": None, "layers_to_transform": [2, 3], "init_scale": 1.0},
        {"least_names": 0.8},
        {"task_type": "CAUSAL_LM", "min_score": -1, "storage": "rows", "target_modules": {"q_proj"}},
    ],
)
def test_a_config_comes_back_from_its_file(changes: dict[str, Any], tmp_path: Path) -> None:
    config = MomeConfig(**changes)
    config.save_pretrained(str(tmp_path))
    for kind in (MomeConfig, PeftConfig):
        found = kind.from_pretrained(str(tmp_path))
        assert isinstance(found, MomeConfig)
        assert found.to_dict() == {**config.to_dict(), "target_modules": found.target_modules}
        assert found.storage is None
    assert all(getattr(config, name) == value for name, value in changes.items() if name != "task_type")


def test_layers_beside_a_pattern_are_refused() -> None:
    with pytest.raises(ValueError, match="layers_to_transform must be left out beside a pattern"):
        MomeConfig(target_modules=".*gate_proj", layers_to_transform=[1])


def test_a_file_of_an_earlier_version_means_what_it_meant(tmp_path: Path) -> None:
    MomeConfig().save_pretrained(str(tmp_path))
    path = tmp_path / "adapter_config.json"
    saved = json.loads(path.read_text())
    older = {"router_layer": 1, "layers_to_transform": None, "target_modules": ["up_proj"], "init_scale": 8.0}
    cases = [(None, None), ([0, 1, 3], [1, 3]), ([2], [2])]  # layers below the router's (1) were passed over
    for written, expected in cases:
        path.write_text(json.dumps({**saved, **older, "layers_to_transform": written}))
        found = MomeConfig.from_pretrained(str(tmp_path))
        assert (found.layers_to_transform, found.target_modules, found.init_scale) == (expected, ["up_proj"], 8.0)
    path.write_text(json.dumps({**saved, **older, "layers_to_transform": [1], "target_modules": ".*gate_proj"}))
    assert MomeConfig.from_pretrained(str(tmp_path)).layers_to_transform is None  # a pattern was taken alone


def test_the_label_of_a_kept_run_is_that_of_the_runs_before() -> None:
    label = {
        **{"num_experts": 1_048_576, "top_k": 8, "target_modules": ["gate_proj"], "layers": None, "router_layer": 1},
        **{"index": "product_key", "init_scale": 32.0, "dtype": "float32", "storage": None, "snap": True},
    }
    config = MomeConfig(num_experts=2**20, top_k=8, storage="rows")
    assert json.dumps(config.label(4)) == json.dumps(label)
    assert config.label(30) == {**label, "router_layer": 8}
    assert replace(config, router_layer=2).label(4) == {**label, "router_layer": 2}
    assert replace(config, layers_to_transform=[2]).label(4) == {**label, "layers": [2]}
    assert replace(config, layers_to_transform=None).label(4) == {**label, "layers": "all"}
    assert replace(config, rank=2, seed=3).label(4) == {**label, "rank": 2, "seed": 3}


@pytest.mark.parametrize(
    ("depth", "router", "adapted"),
    [
        *[(1, 0, [0]), (2, 1, [1]), (3, 1, [1, 2]), (4, 1, [2, 3]), (6, 2, [3, 4, 5]), (12, 3, [9, 10, 11])],
        *[(30, 8, [27, 28, 29]), (32, 8, [29, 30, 31])],
    ],
)
def test_the_default_layers_follow_the_depth(depth: int, router: int, adapted: list[int]) -> None:
    assert MomeConfig().read_layer(depth) == router
    assert MomeConfig().adapted_layers(depth) == adapted


def test_the_upper_half_can_still_be_chosen() -> None:
    half = MomeConfig(layers_to_transform="upper_half")
    assert half.adapted_layers(4) == [2, 3] and half.adapted_layers(30) == list(range(15, 30))
    assert half.label(30)["layers"] == "upper_half"


def test_a_router_reads_no_layer_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="router_layer must be below 4 here, got 4"):
        MomeConfig(router_layer=4).read_layer(4)


def test_a_model_makes_the_default_layers_explicit_and_saved_ones_stay(backbone_folder: Path, tmp_path: Path) -> None:
    model = get_peft_model(load_backbone(str(backbone_folder), "cpu").model, MomeConfig(num_experts=64))
    model.save_pretrained(str(tmp_path))
    found = MomeConfig.from_pretrained(str(tmp_path))
    assert (found.router_layer, found.layers_to_transform) == (1, [1])
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "router_layer": 0, "layers_to_transform": [0, 1]}))
    explicit = MomeConfig.from_pretrained(str(tmp_path))
    assert (explicit.read_layer(30), explicit.adapted_layers(30)) == (0, [0, 1])


def test_settings_hold_a_config_and_take_changes_to_it() -> None:
    recipe = Recipe().but(mome={"top_k": 8, "layers_to_transform": [1]})
    assert recipe.mome == MomeConfig(top_k=8, layers_to_transform=[1])
    assert Recipe.model_validate(recipe.model_dump()) == recipe != Recipe()
    with pytest.raises(ValueError, match="MomeConfig: top_k must be"):
        Recipe().but(mome={"top_k": 0})
    with pytest.raises(ValueError, match="unexpected keyword argument 'experts'"):
        Recipe().but(mome={"experts": 8})


@pytest.mark.parametrize(
    ("number", "factor"), [(1, 1), (7, 1), (12, 3), (65_536, 256), (1_000_000, 1000), (999_999, 999)]
)
def test_balanced_factor(number: int, factor: int) -> None:
    assert balanced_factor(number) == factor


def test_without_a_check_of_names_nothing_says_that_there_is_one() -> None:
    assert "least_names" not in MomeConfig().own() and "least_names" not in MomeConfig().to_dict()
    assert (
        MomeConfig(least_names=0.8).own()["least_names"] == MomeConfig(least_names=0.8).to_dict()["least_names"] == 0.8
    )
    assert MomeConfig(least_names=0.8).label(4) == {**MomeConfig().label(4), "least_names": 0.8}
    with pytest.raises(ValueError, match="least_names must be None where snap is False"):
        MomeConfig(least_names=0.8, snap=False)
