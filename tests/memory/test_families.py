"""Models of the Hub's families: loaded, run in parts, tuned with LoRA for a step, given a fact, saved and loaded."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import FAMILIES, write_model
from tiny_models import inner

from mome.adapter.config import MomeConfig
from mome.lm.decoder import decoder_layers, states_before, without_layers
from mome.lm.encoding import collate, encode_question
from mome.lm.loading import Backbone, load_backbone
from mome.lm.losses import answer_losses
from mome.memory.loading import load_memory
from mome.memory.memorize import memorize
from mome.train.attach import attach_mome
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, MemorySettings, RouterSettings

QUESTIONS = ("What is the capital of Peru?", "In which year did Walden appear, and what did Emma say of it then?")
CASES = [(family, tied) for family in FAMILIES for tied in (True, False)]


@pytest.fixture(
    scope="module", params=CASES, ids=[f"{family}-{'tied' if tied else 'untied'}" for family, tied in CASES]
)
def folder(request: Any, backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, tied = request.param
    # one of each pair has a chat template
    return write_model(tmp_path_factory.mktemp(family), family, backbone_folder, tied=tied, chat=tied)


@pytest.fixture(scope="module")
def untouched(folder: Path) -> Backbone:
    """Loaded once, for tests that leave it as it is."""
    torch.set_num_threads(1)
    return load_backbone(str(folder), "cpu")


@pytest.fixture
def loaded(untouched: Backbone) -> Backbone:
    """A copy, to be changed."""
    return Backbone(untouched.name, copy.deepcopy(untouched.model), untouched.tokenizer)


@pytest.fixture(autouse=True)
def project(made_up_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(made_up_root))
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))


def test_the_embeddings_are_tied_as_the_folder_says(untouched: Backbone) -> None:
    tied = untouched.model.get_output_embeddings().weight is untouched.model.get_input_embeddings().weight
    assert tied == untouched.model.config.tie_word_embeddings
    assert len(decoder_layers(untouched.model)) == 4


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_the_states_before_a_layer_lead_to_the_same_losses(
    untouched: Backbone, layer: int, full_precision: None
) -> None:
    rows = [encode_question(untouched.tokenizer, question, "Lima") for question in QUESTIONS]
    batch = collate(rows, untouched.tokenizer.pad_token_id)
    states = states_before(untouched.model, layer, batch.ids, batch.mask, batch.positions)
    with torch.no_grad():
        found = answer_losses(without_layers(untouched.model, 0, layer), batch, states)
        torch.testing.assert_close(found, answer_losses(untouched.model, batch))


def test_one_step_of_lora_lowers_the_loss(loaded: Backbone) -> None:
    model = attach_lora(loaded, LoraSettings(rank=4), seed=0)
    batch = collate([encode_question(loaded.tokenizer, QUESTIONS[0], "Lima")], loaded.tokenizer.pad_token_id)
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    before = answer_losses(model, batch).mean()
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert answer_losses(model, batch).mean() < before


def test_experts_stand_in_the_top_layers_and_change_nothing_before_training(loaded: Backbone) -> None:
    tokens = loaded.tokenizer(QUESTIONS[0], return_tensors="pt")
    with torch.no_grad():
        before = loaded.model(**tokens).logits
        model = attach_mome(loaded, MomeConfig(num_experts=256, top_k=8), 0)
        assert torch.equal(model(**tokens).logits, before)
    places = [name.partition("layers.")[2] for name in sorted(inner(model).bank.shapes)]
    assert places == ["2.mlp.gate_proj", "3.mlp.gate_proj"]


def test_a_fact_is_memorized_saved_and_asked_for(folder: Path, facts: list, tmp_path: Path) -> None:
    config, router = MomeConfig(num_experts=4096, top_k=16), RouterSettings(objective="none")
    memory = memorize(facts[:2], str(folder), mome=config, router=router, memory=MemorySettings(batch_size=4))
    assert [str(memory.ask(fact.question)) for fact in facts[:2]] == [fact.answer for fact in facts[:2]]
    memory.save(tmp_path / "adapter")
    again = load_memory(tmp_path / "adapter")
    assert [str(again.ask(fact.question)) for fact in facts[:2]] == [fact.answer for fact in facts[:2]]
