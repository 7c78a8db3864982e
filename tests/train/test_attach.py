"""Attaching memory experts by settings, and the trained router that runs on a backbone share."""

import copy as copying
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from tiny_models import inner
from typer.testing import CliRunner

from mome.adapter.config import MomeConfig
from mome.cli.main import app
from mome.facts.shipped import shipped_facts
from mome.files.sealed import CheckpointError
from mome.train.attach import LEARNED, attach_mome, routed_backbone, router_facts, trained_memory, trained_router
from mome.train.experts import memorize_facts
from mome.train.settings import MemorySettings, RouterSettings

SMALL = MomeConfig(num_experts=1024, top_k=8)
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
    chosen = [SMALL, replace(SMALL, router_layer=0, layers_to_transform=[0, 1])]
    found = [sorted(inner(attach_mome(copy(random_backbone), settings, 0)).bank.shapes) for settings in chosen]
    assert found[0] == ["model.layers.1.mlp.gate_proj"]
    assert found[1] == ["model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate_proj"]


@pytest.mark.parametrize("layers", [[0], [2], [0, 1]])
def test_layers_that_the_backbone_does_not_have_above_the_router_are_refused(backbone: Any, layers: list) -> None:
    with pytest.raises(ValueError, match=r"layers_to_transform must be from router_layer \(1\) to 1 here, got \["):
        attach_mome(backbone, replace(SMALL, layers_to_transform=layers), 0)


def test_a_config_of_ones_own_and_mome_tune_give_the_same_adapter(
    random_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr("mome.memory.memorize.memorize_file", lambda *arguments: taken.extend(arguments))
    CliRunner().invoke(app, ["tune", str(tmp_path / "facts.jsonl"), "--out", str(tmp_path / "adapter")])
    changes, router, memory = taken[3:6]
    tuned = inner(attach_mome(copy(random_backbone), MomeConfig(**changes), memory["seed"]))
    own = inner(get_peft_model(copy(random_backbone).model, MomeConfig()))
    assert own.settings == tuned.settings and RouterSettings(**router) == RouterSettings()
    assert own.bank.arguments() == tuned.bank.arguments() and own.bank.arguments()["init_scale"] == 32.0
    assert own.bank.shapes == tuned.bank.shapes and [*own.bank.shapes] == ["model.layers.1.mlp.gate_proj"]
    first, second = own.router.state_dict(), tuned.router.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    some = torch.arange(0, 65_536, 999)
    first, second = own.bank.read(some), tuned.bank.read(some)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_configuration_serves_several_models_and_stays_as_it_is(random_backbone: Any) -> None:
    before = SMALL.to_dict()
    attach_mome(copy(random_backbone), SMALL, 3)
    assert SMALL.to_dict() == before


def test_attached_by_a_pattern_alone_all_layers_from_the_routers_upward_take_part(random_backbone: Any) -> None:
    config = replace(SMALL, router_layer=0, target_modules=".*gate_proj")
    found = inner(attach_mome(copy(random_backbone), config, 0))
    assert sorted(found.bank.shapes) == ["model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate_proj"]
    assert found.settings.layers_to_transform is None


def test_the_three_parts_of_the_shipped_facts_share_no_fact_and_avoid_what_is_taken() -> None:
    taken = ["Which city is the capital of Mali?", "What is the capital of Utopia?"]
    parts = router_facts(taken, seed=0)
    ids = [fact.id for part in parts for fact in part]
    everything = {fact.id for name in ("known", "unknown") for fact in shipped_facts(name)}
    assert len(ids) == len({*ids}) and everything - {*ids} == {"capital/Mali", "capital/Utopia"}
    assert [len(part) for part in parts] == [7, 1, 0]
    assert [len(part) for part in router_facts(taken, seed=0, most=5)] == [4, 1, 3]


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
    larger = attach_mome(copy(random_backbone), MomeConfig(num_experts=4096, top_k=8), 0)
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
    other = attach_mome(copy(random_backbone), replace(SMALL, **layer), int(change == "seed"))
    trained_router(other, random_backbone.tokenizer, asked, settings, "x" if change == "identity" else "random")
    assert len(list((root / "runs" / "routers").iterdir())) == 2


def test_a_damaged_router_is_named(backbone: Any, facts: Any, root: Path) -> None:
    model = attach_mome(backbone, SMALL, 0)
    trained_router(model, backbone.tokenizer, facts, SETTINGS, "random")
    (path,) = (root / "runs" / "routers").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=path.name):
        trained_router(model, backbone.tokenizer, facts, SETTINGS, "random")


def test_a_trained_memory_is_a_routed_backbone_whose_experts_are_trained(random_backbone: Any, facts: Any) -> None:
    memory, others = MemorySettings(epochs=3, learning_rate=2e-2, repairs=0, seed=1), ["Why?", "Who is it?"]
    settings = SETTINGS.model_copy(update={"false_alarms": 0.5})
    options = {"learn_from": facts, "others": others, "which": "random"}
    done = trained_memory(copy(random_backbone), facts[:3], SMALL, settings, memory, **options)
    routed, report = routed_backbone(copy(random_backbone), SMALL, settings, facts, 1, "random")
    model, tokenizer = routed.model, routed.tokenizer
    run = memorize_facts(model, tokenizer, facts[:3], memory, others=others, false_alarms=0.5)
    assert done.run.losses.tobytes() == run.losses.tobytes() and done.report == report
    ours, theirs = (inner(each.backbone.model if each is done else model) for each in (done, routed))
    assert all(torch.equal(values, theirs.bank.members()[name]) for name, values in ours.bank.members().items())
    assert ours.router.min_score == theirs.router.min_score and torch.equal(
        ours.router.anchors.queries, theirs.router.anchors.queries
    )
