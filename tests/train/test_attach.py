"""Attaching memory experts by settings, and the trained router that runs on a backbone share."""

import copy as copying
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import inner

from mome.adapter.config import MomeSettings
from mome.facts.shipped import shipped_facts
from mome.files.sealed import CheckpointError
from mome.train.attach import LEARNED, attach_mome, router_facts, trained_router
from mome.train.settings import RouterSettings

SMALL = MomeSettings(num_experts=1024, top_k=8)
SETTINGS = RouterSettings(steps=3, batch_size=8)


@pytest.fixture(autouse=True)
def root(made_up_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with the made-up shipped facts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "facts").symlink_to(made_up_root / "data" / "facts")
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    return tmp_path


def copy(backbone: Any) -> Any:
    return type(backbone)("random", copying.deepcopy(backbone.model), backbone.tokenizer)


def learned(model: Any) -> list[torch.Tensor]:
    return [getattr(inner(model).router, name).detach().clone() for name in LEARNED]


def test_the_upper_half_of_the_layers_is_adapted_unless_layers_are_named(random_backbone: Any) -> None:
    chosen = [SMALL, SMALL.model_copy(update={"router_layer": 0, "layers": [0, 1]})]
    found = [sorted(inner(attach_mome(copy(random_backbone), settings, 0)).bank.shapes) for settings in chosen]
    assert found[0] == ["model.layers.1.mlp.gate_proj"]
    assert found[1] == ["model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate_proj"]


@pytest.mark.parametrize("changes", [{"layers": [0]}, {"layers": [2]}, {"layers": []}, {"router_layer": 2}])
def test_layers_that_the_backbone_does_not_have_above_the_router_are_refused(backbone: Any, changes: dict) -> None:
    with pytest.raises(ValueError, match=r"layers \[.*\]: must lie between router_layer"):
        attach_mome(backbone, SMALL.model_copy(update=changes), 0)


def test_layers_beside_a_pattern_are_refused(backbone: Any) -> None:
    with pytest.raises(ValueError, match="not a pattern"):
        attach_mome(backbone, MomeSettings(target_modules=".*gate_proj", layers=[1]), 0)


def test_the_three_parts_of_the_shipped_facts_share_no_fact_and_avoid_what_is_taken() -> None:
    taken = ["Which city is the capital of Mali?", "What is the capital of Utopia?"]
    parts = router_facts(taken, seed=0)
    ids = [fact.id for part in parts for fact in part]
    everything = {fact.id for name in ("known", "unknown") for fact in shipped_facts(name)}
    assert len(ids) == len({*ids}) and everything - {*ids} == {"capital/Mali", "capital/Utopia"}
    assert [len(part) for part in parts] == [7, 1, 0]


def test_a_router_is_trained_once_and_serves_any_number_of_experts(
    random_backbone: Any, facts: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = attach_mome(copy(random_backbone), SMALL, 0)
    first = trained_router(model, random_backbone.tokenizer, facts, SETTINGS, "random")
    monkeypatch.setattr("mome.train.attach.train_router", None)
    again = attach_mome(copy(random_backbone), SMALL, 0)
    assert not all(map(torch.equal, learned(again), learned(model)))
    assert trained_router(again, random_backbone.tokenizer, facts, SETTINGS, "random") == first
    assert all(map(torch.equal, learned(again), learned(model)))
    larger = attach_mome(copy(random_backbone), MomeSettings(num_experts=4096, top_k=8), 0)
    report = trained_router(larger, random_backbone.tokenizer, facts, SETTINGS, "random")
    assert report.losses == first.losses and report.dead_experts > first.dead_experts
    assert not any(parameter.requires_grad for parameter in inner(larger).router.parameters())
    assert len(list((root / "runs" / "routers").iterdir())) == 1


@pytest.mark.parametrize("change", ["facts", "settings", "identity", "seed", "router_layer"])
def test_another_run_trains_a_router_of_its_own(random_backbone: Any, facts: Any, root: Path, change: str) -> None:
    asked = facts[:4] if change == "facts" else facts
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-3}) if change == "settings" else SETTINGS
    layer = {"router_layer": 0} if change == "router_layer" else {}
    first = attach_mome(copy(random_backbone), SMALL, 0)
    trained_router(first, random_backbone.tokenizer, facts, SETTINGS, "random")
    other = attach_mome(copy(random_backbone), SMALL.model_copy(update=layer), int(change == "seed"))
    trained_router(other, random_backbone.tokenizer, asked, settings, "x" if change == "identity" else "random")
    assert len(list((root / "runs" / "routers").iterdir())) == 2


def test_a_damaged_router_is_named(backbone: Any, facts: Any, root: Path) -> None:
    model = attach_mome(backbone, SMALL, 0)
    trained_router(model, backbone.tokenizer, facts, SETTINGS, "random")
    (path,) = (root / "runs" / "routers").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=path.name):
        trained_router(model, backbone.tokenizer, facts, SETTINGS, "random")
