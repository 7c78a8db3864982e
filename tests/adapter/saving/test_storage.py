"""A saved model comes back bit for bit, and never without its experts."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_models import (
    FAMILIES,
    assert_same,
    inner,
    logits,
    make_backbone,
    make_model,
    questions,
    remembering,
    settings,
    taught_model,
    teach,
)

from mome.adapter.model import MomeConfig
from mome.adapter.saving.folder import UnvouchedWarning, seal_adapter
from mome.files.sealed import CheckpointError

WEIGHTS = "adapter_model.safetensors"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def copied(saved_model: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the saved folder, to be spoilt."""
    return Path(shutil.copytree(saved_model[0], tmp_path / "copied"))


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("min_score", [None, -0.5], ids=["no null key", "null key"])
@pytest.mark.parametrize(
    ("family", "changes"),
    [*((family, {}) for family in FAMILIES), ("llama", {"dtype": "bfloat16", "index": "flat", "rank": 2})],
)
def test_loaded_equals_saved_bit_for_bit(
    family: str, changes: dict[str, Any], min_score: float | None, tmp_path: Path
) -> None:
    model = remembering(family, **changes)
    inner(model).set_min_score(min_score)
    assert not torch.equal(logits(model), logits(make_backbone(family)))
    model.save_pretrained(tmp_path)
    assert_same(PeftModel.from_pretrained(make_backbone(family), tmp_path), model)


def test_a_folder_holds_the_bank_apart_and_no_pickle(saved_model: tuple[Path, Any]) -> None:
    folder, _ = saved_model
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    bank = {"bank/manifest.json", "bank/rows.safetensors", "bank/anchors.safetensors"}
    assert names == {"adapter_config.json", WEIGHTS, "README.md", "manifest.json", *bank}
    assert all("mome_router" in name for name in load_file(folder / WEIGHTS))
    assert (folder / WEIGHTS).stat().st_size < 20_000


def test_loading_in_peft_s_other_ways(saved_model: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = saved_model
    ways: dict[str, dict[str, Any]] = {
        "an own config": {"config": settings()},
        "the saved config": {"config": MomeConfig.from_pretrained(folder)},
        "little memory": {"low_cpu_mem_usage": True},
        "to train on": {"is_trainable": True},
    }
    for options in ways.values():
        found = PeftModel.from_pretrained(make_backbone(), folder, **options)
        assert torch.equal(logits(found), logits(model))
    assert inner(found).router.pool.requires_grad
    shutil.copytree(folder, tmp_path / "outer" / "part")
    found = PeftModel.from_pretrained(make_backbone(), tmp_path / "outer", subfolder="part")
    assert_same(found, model)


def test_the_auto_class_finds_backbone_and_bank(tmp_path: Path) -> None:
    make_backbone().save_pretrained(tmp_path / "backbone")
    backbone = type(make_backbone()).from_pretrained(tmp_path / "backbone")
    model = get_peft_model(backbone, settings())
    teach(model, questions(4), questions(4, 3, seed=2))
    model.save_pretrained(tmp_path / "adapter")
    assert_same(AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter")), model)


def test_another_name_for_the_adapter(tmp_path: Path) -> None:
    model = get_peft_model(make_backbone(), settings(), adapter_name="facts")
    teach(model, questions(4), questions(4, 3, seed=2))
    model.save_pretrained(tmp_path)
    found = PeftModel.from_pretrained(make_backbone(), tmp_path / "facts", adapter_name="others")
    assert_same(found, model)


def test_saving_again_replaces_and_a_loaded_model_is_saved_alike(saved_model: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = saved_model
    make_model().save_pretrained(tmp_path)
    found = PeftModel.from_pretrained(make_backbone(), folder)
    found.save_pretrained(tmp_path)
    assert_same(PeftModel.from_pretrained(make_backbone(), tmp_path), model)
    assert (tmp_path / "bank" / "manifest.json").read_bytes() == (folder / "bank" / "manifest.json").read_bytes()


def test_a_copy_of_a_model_saves_its_own_bank(tmp_path: Path) -> None:
    model = taught_model(num_experts=64)
    other = copy.deepcopy(model)
    teach(other, questions(4), questions(4, 3, seed=5))
    other.save_pretrained(tmp_path)
    assert_same(PeftModel.from_pretrained(make_backbone(), tmp_path), other)
    assert not torch.equal(logits(model), logits(other))


def test_the_folder_of_memory_mapped_rows_is_not_saved(tmp_path: Path) -> None:
    """A loaded model that opened it again would change the rows of the one that was saved."""
    model = taught_model(storage=str(tmp_path / "rows"))
    model.save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["storage"] is None
    found = PeftModel.from_pretrained(make_backbone(), tmp_path / "adapter")
    assert inner(found).bank.folder is None
    assert_same(found, model)


# --- never without its experts -------------------------------------------------------------------------------------


def seal_again(folder: Path, model: Any) -> None:
    """Write the checksums of what is there now, to see what the other checks notice."""
    (folder / "manifest.json").unlink()
    seal_adapter(folder, model, None)


def load(folder: Path) -> Any:
    return PeftModel.from_pretrained(make_backbone(), folder)


def test_a_missing_or_damaged_bank_is_refused(copied: Path) -> None:
    rows = copied / "bank" / "rows.safetensors"
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"rows\.safetensors: damaged"):
        load(copied)
    rows.unlink()
    with pytest.raises(CheckpointError, match=r"rows\.safetensors: cannot be read"):
        load(copied)
    shutil.rmtree(copied / "bank")
    for options in ({}, {"config": settings()}):
        with pytest.raises(CheckpointError, match=r"bank/manifest\.json: cannot be read"):
            PeftModel.from_pretrained(make_backbone(), copied, **options)
    (copied / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="bank: no such folder"), pytest.warns(UnvouchedWarning):
        load(copied)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 256}, "num_experts is 256, the adapter's is 1024"),
        ({"seed": 1}, "seed is 1, the adapter's is 0"),
        ({"target_modules": ["q_proj"]}, "shapes is .*q_proj"),
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16'"),
        ({}, "not those this router was saved with"),
    ],
)
def test_the_bank_of_another_adapter_is_refused(
    changes: dict[str, Any], message: str, saved_model: tuple[Path, Any], copied: Path
) -> None:
    shutil.rmtree(copied / "bank")
    inner(taught_model(**changes)).save_bank(copied / "bank")
    with pytest.raises(CheckpointError, match=r"bank/manifest\.json: damaged or replaced"):
        load(copied)
    seal_again(copied, saved_model[1])
    with pytest.raises(ValueError, match=message):
        load(copied)


def test_an_untrained_bank_beside_a_trained_router_is_refused(saved_model: tuple[Path, Any]) -> None:
    """As after loading a state without the bank."""
    _, model = saved_model
    fresh = make_model()
    with pytest.raises(ValueError, match="not those this router was saved with"):
        set_peft_model_state_dict(fresh, get_peft_model_state_dict(model))
    with pytest.raises(ValueError, match="not those this router was saved with"):
        make_model().load_state_dict(model.state_dict())
    model.load_state_dict(model.state_dict())


def test_a_router_file_with_a_gap_is_refused(saved_model: tuple[Path, Any], copied: Path) -> None:
    weights = load_file(copied / WEIGHTS)
    weights.pop("base_model.mome_router.pool")
    save_file(weights, copied / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: damaged or replaced"):
        load(copied)
    seal_again(copied, saved_model[1])
    with pytest.raises(ValueError, match=r"lacks base_model\.mome_router\.default\.pool"):
        load(copied)
