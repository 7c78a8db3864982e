"""Facts memorized and asked in a chat template or a text of one's own: recalled, kept with the adapter, told apart."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import CHAT
from tiny_memory import tuner
from transformers import AutoTokenizer
from two_facts import CODE, FACTS, KEY

from mome.adapter.config import MomeConfig
from mome.adapter.queries import question_states
from mome.facts.fact import Fact
from mome.facts.strict import FactError
from mome.files.sealed import CheckpointError, read_sealed, write_sealed
from mome.lm.generation import greedy_answers
from mome.lm.loading import load_backbone
from mome.lm.prompts.form import QA, PromptForm, prompt_form
from mome.lm.round_trip import find_obstacles
from mome.memory.loading import edit_memory, load_memory
from mome.memory.memorize import memorize, memorize_with_lora
from mome.memory.memory import Memory
from mome.train.settings import LoraSettings, RouterSettings, TuningSettings

SMALL, STEPS = MomeConfig(num_experts=4096, top_k=32), RouterSettings(steps=20, batch_size=32)
OWN = "Dear friend, {question}\n\nTruly: "
LINES = Fact("lines", "How is it done?", "First: one\n\n  and two\nQ: why?\nA: so.")
TAUGHT = [*FACTS, LINES]


@pytest.fixture(scope="module")
def root(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with few shipped facts; beside it tiny-llama with a chat template and its end as padding."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("chat") / "chatty"
    shipped = small_root / "data" / "backbones" / "tiny-llama"
    folder.mkdir()
    for path in shipped.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template, tokenizer.pad_token = CHAT, tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_ROOT", str(small_root))
        patch.setattr("mome.train.attach.MOST_FACTS", 50)
        yield folder


@pytest.fixture(scope="module")
def memory(root: Path) -> Memory:
    return memorize(TAUGHT, str(root), mome=SMALL, router=STEPS)


@pytest.fixture(scope="module")
def saved(memory: Memory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    memory.save(folder)
    return folder


def test_facts_are_memorized_in_the_chat_template_of_the_backbone(memory: Memory) -> None:
    assert prompt_form(memory.backbone.tokenizer).name == "chat"
    report: Any = memory.report
    assert report.recalled == [True] * 3 and report.mistaken < 0.2
    answers = memory.ask_all([KEY.question, *KEY.phrasings, CODE.question, LINES.question])
    assert [answer.text for answer in answers] == [KEY.answer, KEY.answer, CODE.answer, LINES.answer]
    assert all(answer.memorized and answer.score > 0.99 for answer in answers)


def test_the_router_reads_the_words_alone(memory: Memory) -> None:
    """A template with another frame would change other queries, but words stand at the same places."""
    mome, tokenizer = tuner(memory.backbone.model), memory.backbone.tokenizer
    (states,) = question_states(memory.backbone.model, tokenizer, [CODE.question])
    assert states.shape[0] == len(tokenizer(CODE.question, add_special_tokens=False)["input_ids"])
    assert len(mome.router.anchors) == 5  # four wordings, and the mean of two


def test_the_backbone_answers_after_earlier_turns_and_the_experts_as_if_there_were_none(memory: Memory) -> None:
    other, history = "In which country is Lake Titicaca?", [("Who wrote Emma?", "Jane Austen </s>"), ("Why?", "So.")]
    first, known = memory.ask(other), memory.ask(KEY.question)
    assert memory.ask(KEY.question, history=history) == known and known.memorized
    untouched = load_backbone(memory.backbone.name)
    expected = greedy_answers(untouched.model, untouched.tokenizer, [other, other], history=history)
    assert [memory.ask(other, history=history).text] * 2 == expected
    assert memory.ask(other) == first
    with pytest.raises(FactError, match=r"tokens and 40 for the answer, but .* reads 512"):
        memory.ask(KEY.question, history=history * 40)


def test_an_adapter_is_asked_in_the_form_it_was_trained_with(saved: Path, memory: Memory) -> None:
    found = load_memory(saved)
    assert prompt_form(found.backbone.tokenizer) == prompt_form(memory.backbone.tokenizer)
    assert found.ask(LINES.question) == memory.ask(LINES.question)


@pytest.mark.parametrize("prompt", ["qa", OWN])
def test_another_form_is_chosen_and_kept(root: Path, prompt: str, tmp_path: Path) -> None:
    done = memorize(FACTS, str(root), mome=SMALL, router=STEPS, prompt=prompt)
    assert [done.ask(fact.question).text for fact in FACTS] == [fact.answer for fact in FACTS]
    done.save(tmp_path / "adapter")
    with edit_memory(tmp_path / "adapter") as found:
        assert prompt_form(found.backbone.tokenizer) == prompt_form(done.backbone.tokenizer)
        found.add(Fact("cat", "What is the cat's name?", "Tom\nCat"))
    again = load_memory(tmp_path / "adapter")
    assert [again.ask(text).text for text in (KEY.question, "What is the cat's name?")] == [KEY.answer, "Tom\nCat"]


def test_lora_follows_the_form(root: Path, tmp_path: Path) -> None:
    settings = TuningSettings(epochs=60, learning_rate=5e-3, stop_loss=0.01)
    done = memorize_with_lora([CODE, LINES], str(root), settings, LoraSettings(rank=16))
    done.save(tmp_path / "adapter")
    again = load_memory(tmp_path / "adapter")
    assert prompt_form(again.backbone.tokenizer).name == "chat"
    assert [again.ask(fact.question).text for fact in (CODE, LINES)] == [CODE.answer, LINES.answer]


def test_a_checkpoint_of_another_form_is_refused(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"mome": SMALL, "router": STEPS, "checkpoints": tmp_path / "kept"}
    memorize([CODE], str(root), **options)
    with pytest.raises(CheckpointError, match=r"written under other settings \(backbone\)"):
        memorize([CODE], str(root), prompt="qa", **options)


def test_an_adapter_saved_before_forms_is_asked_as_questions_and_answers(root: Path, tmp_path: Path) -> None:
    done = memorize([CODE], str(root), mome=SMALL, router=STEPS, prompt="qa")
    done.save(tmp_path / "adapter")
    manifest = tmp_path / "adapter" / "manifest.json"
    body = read_sealed(manifest)
    assert PromptForm.from_json(body["backbone"].pop("prompt")) == QA
    manifest.unlink()
    write_sealed(manifest, body)
    found = load_memory(tmp_path / "adapter")
    assert prompt_form(found.backbone.tokenizer) == QA and found.ask(CODE.question).text == CODE.answer
    body["backbone"]["prompt"] = {"before": "Q"}
    manifest.unlink()
    write_sealed(manifest, body)
    with pytest.raises(CheckpointError, match=r"manifest\.json: not a manifest.*not a prompt form"):
        load_memory(tmp_path / "adapter")


def test_the_form_survives_pefts_own_saving(memory: Memory, tmp_path: Path) -> None:
    model: Any = memory.backbone.model
    model.save_pretrained(str(tmp_path / "by_peft"))
    found = load_memory(tmp_path / "by_peft", memory.backbone.name)
    assert prompt_form(found.backbone.tokenizer).name == "chat"
    assert found.ask(CODE.question).text == CODE.answer


def test_an_answer_that_would_be_cut_is_refused_in_one_form_and_held_in_another(root: Path) -> None:
    chat, asked = load_backbone(str(root)), load_backbone(str(root), prompt="qa")
    assert find_obstacles(chat, [LINES]) == []
    (obstacle,) = find_obstacles(asked, [LINES])
    assert obstacle.final and "ends before a line that starts with 'Q:'" in obstacle.problem
    assert find_obstacles(asked, [replace(LINES, answer=LINES.answer.replace("\nQ", " Q").replace("\nA", " A"))]) == []
