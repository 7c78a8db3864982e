"""Pretraining: the tokenizer's promises, the model's shape, the shipped files, and runs that go on bit for bit."""

import csv
import json
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mome.facts.fact import ALPHABET
from mome.files.sealed import CheckpointError
from mome.lm.encoding import collate, encode
from mome.lm.loading import Backbone, load_backbone
from mome.lm.losses import token_losses
from mome.replication.pretraining.pretrain import PretrainingProgress, build_model, pretrain, train_tokenizer
from mome.replication.pretraining.settings import PRETRAINING

SMOKE = PRETRAINING["smoke"]
TEXTS = ["Q: Who wrote Emma?\nA: Jane Austen", "the capital of Peru is Lima", "Repeat K7Q2ABBA99", "THE TALE of 1815"]
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "recipe.json", "loss.csv"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(TEXTS * 3, vocabulary=400)


def test_digits_and_capitals_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    generator = random.Random(0)
    for length in range(1, 65):
        text = "".join(generator.choices(ALPHABET, k=length))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [tokenizer.decode([token]) for token in ids] == list(text)


def test_words_of_the_texts_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("the capital of Peru", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([token]) for token in ids] == ["the", " capital", " of", " Peru"]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40).filter(lambda text: "<" not in text))
def test_every_text_comes_back(text: str) -> None:
    shared = _shared_tokenizer()
    ids = shared(text)["input_ids"]
    assert ids[0] == shared.bos_token_id
    assert shared.decode(ids, skip_special_tokens=True) == text


@cache
def _shared_tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(TEXTS, vocabulary=300)


def test_a_tokenizer_comes_back_from_its_folder(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    assert loaded.padding_side == "left"
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == ("<pad>", "<s>", "</s>")
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    for text in (*TEXTS, "A1b2 <s> ü"):
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_the_same_texts_give_the_same_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    assert train_tokenizer(TEXTS * 3, vocabulary=400).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_a_model_has_the_shape_of_its_settings(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    recipe = PRETRAINING[name]
    model = build_model(recipe, tokenizer)
    config = model.config
    assert config.model_type == recipe.architecture
    assert getattr(config, "sliding_window", None) == recipe.sliding_window
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    head = recipe.hidden // recipe.heads
    attention = 2 * recipe.hidden * recipe.hidden + 2 * recipe.hidden * head * recipe.key_value_heads
    block = attention + 3 * recipe.hidden * recipe.intermediate + 2 * recipe.hidden
    expected = len(tokenizer) * recipe.hidden + recipe.layers * block + recipe.hidden
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_the_seed_decides_the_model(tokenizer: PreTrainedTokenizerBase) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        return list(build_model(SMOKE.model_copy(update={"seed": seed}), tokenizer).parameters())

    assert all(torch.equal(one, two) for one, two in zip(weights(0), weights(0), strict=True))
    assert not torch.equal(weights(0)[0], weights(1)[0])


class Probe:
    """Counts its calls, and interrupts the run at one of them."""

    def __init__(self, stop: int = 0) -> None:
        self.stop, self.calls = stop, 0

    def __call__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        assert not model.training
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return {"recall": 0.5}


@pytest.fixture(autouse=True)
def root(made_up_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(made_up_root))
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finished(
    public_sets: Path, made_up_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PretrainingProgress]:
    """The folder of an uninterrupted smoke run and its progress; batches of 16 make several steps an epoch."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_ROOT", str(made_up_root))
        torch.set_num_threads(1)
        return folder / "out", pretrain(recipe(), public_sets, folder / "out", folder / "snapshot", Probe())


def recipe(**changes: object) -> Any:
    return SMOKE.model_copy(update={"batch_size": 16, **changes})


def test_a_run_writes_the_promised_files(finished: tuple[Path, PretrainingProgress]) -> None:
    folder, progress = finished
    assert {file.name for file in folder.iterdir()} >= FILES
    record = json.loads((folder / "recipe.json").read_text("utf-8"))
    assert record["settings"] == recipe().model_dump(mode="json")
    assert record["examples"] == {"EntityQuestions": 8, "ParaRel": 2, "TruthfulQA": 2, "codes": 8, "known facts": 16}
    assert record["tokens"] == sum(row["tokens"] for row in progress.rows)
    backbone = load_backbone(str(folder), "cpu")
    assert record["parameters"] == sum(parameter.numel() for parameter in backbone.model.parameters())
    assert json.loads((folder / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"
    with (folder / "loss.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["recall"] for row in rows] == ["", "0.5"]
    assert [float(row["answer_loss"]) for row in rows] == [row["answer_loss"] for row in progress.rows]


def test_it_learns(finished: tuple[Path, PretrainingProgress], public_sets: Path, tmp_path: Path) -> None:
    """An untrained model is near the logarithm of its vocabulary; longer training goes far below two epochs."""
    folder, progress = finished
    vocabulary = len(load_backbone(str(folder), "cpu").tokenizer)
    assert progress.rows[0]["answer_loss"] == pytest.approx(math.log(vocabulary), abs=1.0)
    longer = pretrain(recipe(epochs=20, learning_rate=1e-2), public_sets, tmp_path / "out", tmp_path / "s", Probe())
    assert longer.rows[-1]["answer_loss"] < progress.rows[-1]["answer_loss"] - 1


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    architecture: str, public_sets: Path, tmp_path: Path
) -> None:
    """Interrupted in the probe of epochs 2 and 4, before their snapshots."""
    settings = recipe(architecture=architecture, epochs=4)
    whole = pretrain(settings, public_sets, tmp_path / "whole", tmp_path / "snapshots" / "whole", Probe())
    for stop in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings, public_sets, tmp_path / "parts", tmp_path / "snapshots" / "parts", Probe(stop))
        assert not (tmp_path / "parts").exists()
    parts = pretrain(settings, public_sets, tmp_path / "parts", tmp_path / "snapshots" / "parts", Probe())
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert _without_speed(parts) == _without_speed(whole)


def _without_speed(progress: PretrainingProgress) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in progress.rows]


def test_a_finished_run_is_not_trained_again(public_sets: Path, tmp_path: Path) -> None:
    probe = Probe()
    first = pretrain(recipe(), public_sets, tmp_path / "one", tmp_path / "snapshot", probe)
    again = pretrain(recipe(), public_sets, tmp_path / "two", tmp_path / "snapshot", probe)
    assert probe.calls == 1
    assert again == first
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


def test_a_snapshot_of_another_recipe_is_refused(public_sets: Path, tmp_path: Path) -> None:
    pretrain(recipe(epochs=1), public_sets, tmp_path / "out", tmp_path / "snapshot", Probe())
    with pytest.raises(CheckpointError, match="learning_rate") as caught:
        pretrain(recipe(epochs=1, learning_rate=1e-4), public_sets, tmp_path / "out", tmp_path / "snapshot", Probe())
    assert str(tmp_path / "snapshot") in str(caught.value)


def test_a_missing_public_set_is_named_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="entityquestions"):
        pretrain(recipe(), tmp_path / "nowhere", tmp_path / "out", tmp_path / "snapshot", Probe())
    assert list(tmp_path.iterdir()) == []


def test_shipped_weights_are_the_trained_ones_rounded_to_bf16(
    finished: tuple[Path, PretrainingProgress], random_backbone: Backbone
) -> None:
    folder, _ = finished
    loaded = load_backbone(str(folder), "cpu")
    assert all(torch.equal(value, value.bfloat16().float()) for value in loaded.model.parameters())
    row = encode(loaded.tokenizer, "Q: What is the capital of Peru?\nA:", "Lima")
    batch = collate([row], loaded.tokenizer.pad_token_id)
    assert token_losses(loaded.model, batch, 3).isfinite().all()
