"""A memory that checks names: asked, generated, edited, saved and loaded, a question without the names is rejected."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_models import inner
from two_facts import CODE, FACTS, KEY

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.lm.encoding import encode_prompts
from mome.lm.loading import load_backbone
from mome.memory.loading import edit_memory, load_memory
from mome.memory.memorize import memorize, mistaken_share
from mome.memory.memory import Memory
from mome.replication.damage.scope import recognized
from mome.train.settings import RouterSettings

CHECKING = MomeConfig(num_experts=4096, top_k=32, least_names=0.8)
TYPED = CODE.question.replace("opens", "oepns")
BOAT = Fact("boat", "Which code starts the boat?", "1188B")


@pytest.fixture(scope="module")
def memory(small_root: Path) -> Iterator[Memory]:
    """Two facts memorized with a check of names, and a threshold that all questions reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_ROOT", str(small_root))
        patch.setattr("mome.train.attach.MOST_FACTS", 100)
        torch.set_num_threads(1)
        made = memorize(FACTS, "tiny-llama", mome=CHECKING, router=RouterSettings(objective="none"))
        inner(made.backbone.model).set_min_score(-1.0 + 1e-6)
        yield made


@pytest.fixture(scope="module")
def saved(memory: Memory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named") / "adapter"
    memory.save(folder)
    return folder


def recognizes(memory: Memory, *questions: str) -> list[bool]:
    return [bool(answer.recognized) for answer in memory.ask_all(questions)]


def chosen(memory: Memory, *questions: str) -> list[bool]:
    """Which questions get experts in a plain forward pass of a padded batch."""
    ids, mask, read = encode_prompts(memory.backbone.tokenizer, questions)
    model: Any = memory.backbone.model
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, prompt_mask=read)
    return inner(model).selection.routes.weights.any(dim=1).tolist()  # type: ignore[union-attr]


def test_a_question_with_the_names_is_answered_and_another_is_not(memory: Memory) -> None:
    other = CODE.question.replace("opens", "paints").replace("code", "colour")
    questions = [CODE.question, TYPED, KEY.question, other, "Who wrote Emma?"]
    for way in (recognizes, chosen):
        assert way(memory, *questions) == [True, True, True, False, False]
    assert memory.ask(CODE.question).text == CODE.answer and memory.ask(CODE.question).memorized
    assert mistaken_share(memory.backbone, [CODE.question, other]) == 0.5
    table = recognized(memory.backbone, {"set": [("a", TYPED), ("b", other)]})
    assert table["recognized"].tolist() == [True, False]


def test_generation_checks_the_prompt_and_not_what_follows(memory: Memory) -> None:
    ids, mask, read = encode_prompts(memory.backbone.tokenizer, [CODE.question, "Who wrote Emma?"])
    model: Any = memory.backbone.model
    found = model.generate(
        input_ids=ids, attention_mask=mask, prompt_mask=read, max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    first, second = memory.backbone.tokenizer.batch_decode(found[:, ids.shape[1] :], skip_special_tokens=True)
    assert first.strip().startswith(CODE.answer) and CODE.answer not in second


def test_the_names_are_saved_and_the_words_follow_edits(memory: Memory, saved: Path) -> None:
    questions = [CODE.question, TYPED, "Who wrote Emma?", BOAT.question]
    assert recognizes(load_memory(saved), *questions) == [True, True, False, False]
    first, again = memory.editor, load_memory(saved).editor
    assert first is not None and again is not None and first.out_of_scope is not None and again.out_of_scope is not None
    assert again.out_of_scope.questions == first.out_of_scope.questions
    assert first.out_of_scope.questions  # they set the threshold anew after an edit
    with edit_memory(saved) as held:
        held.add(BOAT)
        assert recognizes(held, *questions) == [True, True, False, True]
    assert recognizes(load_memory(saved), *questions) == [True, True, False, True]
    with edit_memory(saved) as held:
        held.rollback(0)
        assert recognizes(held, *questions) == [True, True, False, False]


def test_without_a_tokenizer_or_tokens_the_check_is_refused(memory: Memory, saved: Path) -> None:
    backbone = load_backbone("tiny-llama")
    plain: Any = PeftModel.from_pretrained(backbone.model, str(saved))
    ids, _, _ = encode_prompts(backbone.tokenizer, [CODE.question])
    with pytest.raises(ValueError, match=r"least_names: .* needs the tokenizer; load it with mome\.load_memory"):
        plain(input_ids=ids)
    inner(plain).read_words(backbone.tokenizer)
    plain(input_ids=ids)
    assert inner(plain).selection.routes.weights.any()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"inputs_embeds: .* give input_ids"):
        plain(inputs_embeds=plain.get_input_embeddings()(ids))
