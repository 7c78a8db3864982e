"""An adapter is verified: its files, its configuration, its backbone; and it replaces an older one as a whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from old_formats import as_before_manifests
from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel
from tiny_memory import tuner
from tiny_models import assert_same, inner, make_backbone, remembering, taught_model

from mome import MomeConfig
from mome.adapter.saving.folder import AdapterError, UnvouchedWarning, verify_adapter
from mome.adapter.saving.identity import same_weights, weights_digests
from mome.facts.fact import Fact
from mome.files.hashing import file_sha256
from mome.files.sealed import CheckpointError, read_sealed, render
from mome.lm.loading import Backbone
from mome.memory.loading import load_memory
from mome.memory.memory import Memory


def rewrite_checksums(path: Path) -> None:
    """Have the manifest name the file as it is now."""
    manifest = path.parent / "manifest.json"
    body = read_sealed(manifest)
    body["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest.write_bytes(render(body))


# --- files ---------------------------------------------------------------------------------------------------------


def test_every_file_but_the_readme_is_verified(folder: Path, facts: list[Fact]) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for damage in (content[:-1], content + b"\n", b""):
            path.write_bytes(damage)
            if path.name == "README.md":
                assert load_memory(folder).ask(facts[0].question).text == facts[0].answer
                continue
            with pytest.raises((AdapterError, CheckpointError), match=path.name) as caught:
                load_memory(folder)
            assert "\n" not in str(caught.value)
        path.write_bytes(content)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json: missing"):
        load_memory(folder)


def test_an_adapter_of_an_earlier_version_loads_with_a_warning(folder: Path, facts: list[Fact]) -> None:
    as_before_manifests(folder)
    with pytest.warns(UnvouchedWarning, match="its files cannot be verified; save it anew") as caught:
        memory = load_memory(folder)
    assert len([each for each in caught if each.category is UnvouchedWarning]) == 1
    assert memory.ask(facts[0].question).text == facts[0].answer and memory.facts == facts


def test_a_manifest_that_names_files_elsewhere_is_refused(folder: Path) -> None:
    for name in ("../secret", "/etc/hostname", "bank/../../x"):
        body = read_sealed(folder / "manifest.json")
        body["files"][name] = {"bytes": 1, "sha256": "0"}
        (folder / "manifest.json").write_bytes(render(body))
        with pytest.raises(CheckpointError, match="names a file"):
            verify_adapter(folder)


def test_a_saved_bank_holds_no_tables_of_optimizers(saved: Path, memory: Memory) -> None:
    from safetensors.torch import load_file

    assert any("adam" in name for name in tuner(memory.backbone.model).bank.members())
    assert not [name for name in load_file(saved / "bank" / "rows.safetensors") if "adam" in name]


# --- the backbone --------------------------------------------------------------------------------------------------


def test_a_backbone_of_the_same_shape_with_other_weights_is_refused(
    folder: Path, backbone_folder: Path, random_backbone: Backbone, tmp_path: Path, facts: list[Fact]
) -> None:
    other = Path(shutil.copytree(backbone_folder, tmp_path / "other"))
    assert load_memory(folder, str(other)).ask(facts[0].question).text == facts[0].answer
    from mome.lm.loading import load_backbone

    changed = load_backbone(str(other)).model
    with torch.no_grad():
        changed.get_input_embeddings().weight[5, 3] += 0.25
    changed.save_pretrained(other)
    with pytest.raises(AdapterError, match="trained on a backbone with other weights than this one; load it on"):
        load_memory(folder, str(other))
    with pytest.raises(AdapterError, match="other weights"):
        PeftModel.from_pretrained(changed, str(folder))


def test_weights_are_known_again_in_less_precision() -> None:
    full, half, other = make_backbone(), make_backbone().bfloat16(), make_backbone(seed=1)
    assert same_weights(weights_digests(full), weights_digests(half)) is True
    assert same_weights(weights_digests(half), weights_digests(other)) is False
    assert same_weights(weights_digests(full), weights_digests(make_backbone().half())) is None
    assert weights_digests(full) == weights_digests(taught_model())


# --- configurations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: {**values, "peft_type": "LORA"},
        lambda values: {**values, "peft_type": "NONE_SUCH"},
        lambda values: {**values, "peft_type": 3},
        lambda values: {**values, "top_k": float("nan")},
        lambda values: {**values, "key_size": 1e300},
        lambda values: {**values, "num_experts": 10**30},
        lambda values: {**values, "seed": 2**70},
        lambda values: {**values, "index": "flat", "num_experts": 2**26, "key_size": 1024},
        lambda values: {**values, "router_heads": 1000, "key_size": 4096},
        lambda values: {**values, "target_modules": {"a": 1}},
        lambda values: {**values, "target_modules": "("},
        lambda values: {**values, "layers_to_transform": "all"},
        lambda values: {**values, "base_model_name_or_path": ["x"]},
        lambda values: [values],
        lambda values: 7,
    ],
)
def test_a_damaged_configuration_is_one_line_even_if_its_checksum_is_right(folder: Path, damage: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    rewrite_checksums(path)
    with pytest.raises(AdapterError, match="adapter") as caught:
        load_memory(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["adapter_config.json", "held.json", "manifest.json", "bank/manifest.json"])
@pytest.mark.parametrize("text", ["{", "[" * 100_000, "null", "NaN", '{"body": 1e999}', "{}", "\x00", "9" * 5000])
def test_no_json_of_an_adapter_ends_in_a_traceback(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises((AdapterError, CheckpointError), match=name):
        load_memory(folder)
    as_found = [path for path in folder.iterdir() if path.name != "manifest.json"]
    (folder / "manifest.json").unlink()
    assert as_found
    with pytest.raises((AdapterError, CheckpointError)):
        load_memory(folder)


def test_the_storage_of_a_received_configuration_is_not_followed(tmp_path: Path) -> None:
    model = remembering()
    make_backbone().save_pretrained(tmp_path / "backbone")
    model.peft_config["default"].base_model_name_or_path = str(tmp_path / "backbone")
    model.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "storage": str(tmp_path / "evil")}))
    rewrite_checksums(path)
    with pytest.warns(UserWarning, match="evil' is not followed"):
        loaded = PeftModel.from_pretrained(make_backbone(), tmp_path / "adapter")
    assert inner(loaded).bank.folder is None
    assert_same(loaded, model)
    for read in (MomeConfig.from_pretrained, PeftConfig.from_pretrained):
        with pytest.warns(UserWarning, match="evil' is not followed"):
            config = read(str(tmp_path / "adapter"))
        assert type(config) is MomeConfig and config.storage is None
    with pytest.warns(UserWarning, match="evil' is not followed"):
        AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    assert not (tmp_path / "evil").exists()
