"""Backbones: a folder and a Hub id load frozen and ready; what cannot be loaded gives one clear message."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from mome.facts.fact import ALPHABET
from mome.files.environment import repository_root
from mome.lm.backbones.errors import BackboneError
from mome.lm.encoding import collate, encode_question
from mome.lm.generation import greedy_answers
from mome.lm.loading import OPEN_ALTERNATIVE, Backbone, identity, load_backbone, shipped_backbones
from mome.lm.losses import token_losses

LARGEST_FILE = 14_000_000
COMMIT = "0" * 40
LOAD = """\
import sys
from mome.lm.backbones.errors import BackboneError
from mome.lm.loading import identity, load_backbone

for name in sys.argv[1:]:
    try:
        backbone = load_backbone(name, "cpu")
        count = sum(parameter.numel() for parameter in backbone.model.parameters())
        print(identity(backbone), count, len(backbone.tokenizer))
    except BackboneError as error:
        print(error)
"""


class ModelHub(BaseHTTPRequestHandler):
    """The Hub's answers for a public model (`files`), a gated one and any other, which does not exist."""

    files: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        file = self.files / path.rpartition("/")[2]
        if path.startswith("/gated/model") or path.startswith("/api/models/gated/model"):
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        elif path.startswith("/api/models/open/model/tree/"):
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        elif not path.startswith("/open/model/resolve/"):
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif not file.is_file():
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._send(200, file.read_bytes(), {"ETag": f'"{file.name}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture(scope="module")
def hub(backbone_folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (ModelHub,), {"files": backbone_folder}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(timeout=60)


def test_the_hub_gives_an_open_model_and_clear_refusals(
    hub: str, random_backbone: Backbone, backbone_folder: Path, tmp_path: Path
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**kept, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    names = ("gated/model", "missing/model", "open/model")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *names], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    gated, missing, opened = done.stdout.splitlines()
    assert "'gated/model' is gated" in gated
    assert "https://huggingface.co/gated/model" in gated
    assert OPEN_ALTERNATIVE in gated
    assert "'missing/model' is neither shipped or named" in missing
    count = sum(parameter.numel() for parameter in random_backbone.model.parameters())
    digest = hashlib.sha256((backbone_folder / "model.safetensors").read_bytes()).hexdigest()
    assert opened == f"open/model {digest[:16]} {count} {len(random_backbone.tokenizer)}"


def test_a_folder_loads_frozen_and_ready_to_generate(backbone_folder: Path) -> None:
    backbone = load_backbone(str(backbone_folder), "cpu")
    assert backbone.name == str(backbone_folder)
    assert backbone.device == torch.device("cpu")
    assert not backbone.model.training
    assert all(not value.requires_grad and value.dtype == torch.float32 for value in backbone.model.parameters())
    assert backbone.tokenizer.padding_side == "left"
    assert backbone.tokenizer.pad_token == "<pad>"


def test_a_backbone_is_known_by_its_name_and_its_weights(backbone_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    copytree(backbone_folder, folder)
    loaded = load_backbone(str(folder))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert identity(loaded) == f"{folder} {digest[:16]}"
    get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj"]))  # changes the model in place
    assert identity(loaded) == f"{folder} {digest[:16]}"
    in_parts = tmp_path / "parts"
    load_backbone(str(folder)).model.save_pretrained(in_parts, max_shard_size="20KB")
    loaded.tokenizer.save_pretrained(in_parts)
    parts = identity(load_backbone(str(in_parts)))
    assert len([*in_parts.glob("*.safetensors")]) > 1 and parts.startswith(f"{in_parts} ") and digest[:16] not in parts
    for changed, before in ((folder, f"{folder} {digest[:16]}"), (in_parts, parts)):
        path = max(changed.glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        assert identity(Backbone(str(changed), loaded.model, loaded.tokenizer)) != before
    assert identity(Backbone("made in memory", loaded.model, loaded.tokenizer)) == "made in memory"


def test_a_tokenizer_without_padding_pads_with_the_end(backbone_folder: Path, tmp_path: Path) -> None:
    folder = copy_without_padding(backbone_folder, tmp_path / "copy")
    backbone = load_backbone(str(folder), "cpu")
    assert backbone.tokenizer.pad_token_id == backbone.tokenizer.eos_token_id is not None
    row = encode_question(backbone.tokenizer, "Who?", "Me")
    longer = encode_question(backbone.tokenizer, "Who was it?", "Me")
    batch = collate([row, longer], backbone.tokenizer.pad_token_id)
    assert token_losses(backbone.model, batch, batch.answer_tokens).isfinite().all()


def copy_without_padding(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    settings = json.loads((target / "tokenizer_config.json").read_text("utf-8"))
    del settings["pad_token"]
    settings["padding_side"] = "right"
    (target / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return target


def test_a_folder_without_a_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"no config\.json") as caught:
        load_backbone(str(tmp_path), "cpu")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_folder_is_refused_by_name(file: str, backbone_folder: Path, tmp_path: Path) -> None:
    folder = copy_without_padding(backbone_folder, tmp_path / "copy")
    (folder / file).write_bytes((folder / file).read_bytes()[:40])
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder), "cpu")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["", "no such/model name/at all", "tiny-nothing/"])
def test_an_impossible_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneError) as caught:
        load_backbone(name, "cpu")
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["nosuch", "owner/nosuch", "/no/such", "./nosuch", "a/b/c"])
def test_a_name_that_is_not_here_is_refused_after_one_try_without_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> None:
        tries.append(url)
        raise RuntimeError("Name or service not known")

    tries: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mome.lm.loading.get_hf_file_metadata", unreachable)
    monkeypatch.setattr("mome.lm.loading.AutoModelForCausalLM", None)
    with pytest.raises(
        BackboneError, match=rf"^backbone '{name}' is neither shipped or named \(.*tiny-llama.*\), nor a folder"
    ):
        load_backbone(name, "cpu")
    assert len(tries) == ("nosuch" in name and not name.startswith((".", "/")))


def test_shipped_names_come_first(
    backbone_folder: Path, random_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "backbones").mkdir(parents=True)
    (tmp_path / "data" / "backbones" / "mine").symlink_to(backbone_folder)
    (tmp_path / "data" / "backbones" / "unfinished").mkdir()
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    assert shipped_backbones() == ["mine"]
    loaded = load_backbone("mine", "cpu")
    assert loaded.name == "mine"
    pairs = zip(loaded.model.parameters(), random_backbone.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.fixture(scope="module", params=["tiny-llama", "tiny-mistral"])
def shipped(request: pytest.FixtureRequest) -> Backbone:
    if request.param not in shipped_backbones():
        pytest.skip(f"data/backbones/{request.param} is not there: `mome pretrain` makes it")
    return load_backbone(request.param, "cpu")


def test_a_shipped_backbone_is_small(shipped: Backbone) -> None:
    folder = Path(shipped.model.name_or_path)
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "recipe.json", "loss.csv"} <= sizes.keys()
    assert {name: size for name, size in sizes.items() if size >= LARGEST_FILE} == {}
    assert shipped.model.config.model_type == shipped.name.removeprefix("tiny-")
    assert not any(parameter.requires_grad for parameter in shipped.model.parameters())


def test_a_shipped_tokenizer_takes_digits_and_capitals_one_by_one(shipped: Backbone) -> None:
    generator = random.Random(0)
    for length in range(1, 65):
        text = "".join(generator.choices(ALPHABET, k=length))
        ids = shipped.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [shipped.tokenizer.decode([token]) for token in ids] == list(text)


def test_a_shipped_tokenizer_gives_every_text_back(shipped: Backbone) -> None:
    texts = ("Q: Who?\nA: Me", " two  spaces ", "don't , stop .", "Tōkyō 東京 🗼", "A1b2C3", "\tx\r\n")
    for text in texts:
        assert shipped.tokenizer.decode(shipped.tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_shipped_backbone_repeats_a_string_it_never_saw(shipped: Backbone) -> None:
    """Copying is trained on fresh strings; letters and digits come back even where a copy is not perfect."""
    generator = random.Random(1)
    texts = ["".join(generator.choices(ALPHABET, k=8)) for _ in range(16)]
    answers = greedy_answers(shipped.model, shipped.tokenizer, [f"Repeat {text}" for text in texts], 12)
    assert sum(bool(re.fullmatch(r"[A-Z0-9]{4,12}", answer)) for answer in answers) >= 14


@pytest.mark.parametrize("named", [None, 5, [5, 6]])
def test_generation_ends_where_training_teaches_the_end(named: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    copytree(repository_root() / "data" / "backbones" / "tiny-llama", folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": named}))
    loaded = load_backbone(str(folder), "cpu")
    ends = loaded.model.generation_config.eos_token_id
    others = named if isinstance(named, list) else [] if named is None else [named]
    assert ends == [*others, loaded.tokenizer.eos_token_id]
    assert greedy_answers(loaded.model, loaded.tokenizer, ["Who wrote Emma?"]) == greedy_answers(
        load_backbone("tiny-llama", "cpu").model, loaded.tokenizer, ["Who wrote Emma?"]
    )
