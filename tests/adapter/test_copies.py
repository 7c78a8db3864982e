"""A model with memory travels: pickled, saved, copied, to another process; PEFT's calls work or say why not."""

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tiny_editing import KEY, answers_of, make_memory, same_state, state
from tiny_models import (
    assert_same,
    inner,
    logits,
    make_backbone,
    make_model,
    questions,
    remembering,
    settings,
    teach,
)

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.train.optim import RowAdam

LONGEST = 120  # seconds


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def through_torch(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {"pickle": through_pickle, "torch.save": through_torch, "copy.deepcopy": copy.deepcopy}


pytestmark = pytest.mark.usefixtures("one_thread")


def generated(model: Any) -> list[list[int]]:
    return model.generate(input_ids=questions(4), max_new_tokens=4, do_sample=False, eos_token_id=None).tolist()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16", "index": "flat"}], ids=str)
def test_a_copy_answers_with_the_same_bits_and_learns_apart(way: Callable[[Any], Any], changes: dict[str, Any]) -> None:
    model = remembering(**changes)
    expected, before = generated(model), logits(model)
    copied = way(model)
    assert_same(copied, model)
    assert generated(copied) == expected
    assert inner(copied).bank is not inner(model).bank and not inner(copied).blocks
    teach(copied, questions(4), questions(4, 3, seed=5), steps=3)
    assert generated(copied) != expected
    assert torch.equal(logits(model), before) and generated(model) == expected


def test_a_pickled_model_has_the_size_of_what_was_touched() -> None:
    small, large = (len(pickle.dumps(make_model(num_experts=count))) for count in (1024, 2**20))
    keys = 2 * (2**10 - 2**5) * 8 * 4  # the product keys' two halves
    assert abs(large - small - keys) < 10_000


def test_a_copy_in_the_midst_of_training_leaves_the_gradients_behind() -> None:
    model = make_model().train()
    model(input_ids=questions(1)).logits.sum().backward()
    copied = through_pickle(model)
    assert inner(model).blocks and not inner(copied).blocks
    with pytest.raises(TypeError, match="RowAdam: its state lies in the bank"):
        pickle.dumps(RowAdam(inner(model).bank, 0.1))


def test_rows_in_a_folder_travel_without_it(tmp_path: Path) -> None:
    model = remembering(storage=str(tmp_path))
    for way in WAYS.values():
        copied = way(model)
        assert_same(copied, model)
        assert inner(copied).bank.folder is None
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.table")}
    teach(copied, questions(4), questions(4, 3, seed=5))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.table")} == kept


def answer(pipe: Any, model: Any) -> None:
    """In another process."""
    torch.set_num_threads(1)
    pipe.send((generated(model), inner(model).selection is not None))
    pipe.close()


def test_a_spawned_process_gets_the_model() -> None:
    model = remembering()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=answer, args=(there, model))
    worker.start()
    there.close()
    try:
        assert here.poll(LONGEST)
        assert here.recv() == (generated(model), True)
        worker.join(LONGEST)
    finally:
        worker.kill()
        worker.join(LONGEST)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_memory_travels_with_its_facts_and_edits(
    way: Callable[[Any], Any], random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]
) -> None:
    memory = make_memory(random_backbone, backbone_folder, facts[:3])
    memory.add(KEY)
    copied = way(memory)
    assert same_state(state(copied), state(memory))
    questions = [fact.question for fact in [*facts, KEY]]
    assert copied.ask_all(questions) == memory.ask_all(questions)
    copied.delete(KEY.id)
    assert not copied.ask(KEY.question).memorized
    assert answers_of(memory, KEY) == [KEY.answer] * 2
    copied.rollback(1)
    assert answers_of(copied, KEY) == [KEY.answer] * 2


# --- PEFT's other calls ----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "merge_adapter": (lambda model: model.merge_adapter(), "merge_adapter: .*cannot be merged"),
    "merge_adapter, safely": (lambda model: model.merge_adapter(["default"], safe_merge=True), "cannot be merged"),
    "unmerge_adapter": (lambda model: model.unmerge_adapter(), "unmerge_adapter: .*cannot be merged"),
    "merge_and_unload": (lambda model: model.merge_and_unload(safe_merge=True), "unload\\(\\) gives the backbone"),
    "add_weighted_adapter": (
        lambda model: model.add_weighted_adapter(["default", "default"], [0.5, 0.5], "both"),
        "add_weighted_adapter: a model takes one MoME adapter",
    ),
    "delete_adapter": (lambda model: model.delete_adapter("default"), "delete_adapter: .*unload\\(\\)"),
    "add_adapter": (lambda model: model.add_adapter("other", settings()), "one MoME adapter"),
    "add_adapter of another method": (
        lambda model: model.add_adapter("other", LoraConfig(target_modules=["q_proj"])),
        "LORA|LoRA|peft_type|one MoME adapter",
    ),
    "set_adapter": (lambda model: model.set_adapter("other"), "other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_weights_or_a_second_adapter_is_refused_and_changes_nothing(name: str) -> None:
    model = remembering()
    call, message = REFUSED[name]
    expected, keys = generated(model), [*model.state_dict()]
    with pytest.raises((NotImplementedError, ValueError), match=message):
        call(model)
    assert generated(model) == expected and [*model.state_dict()] == keys
    assert [*model.peft_config] == ["default"]


def test_loading_into_a_second_name_leaves_the_bank_alone(tmp_path: Path) -> None:
    other, model = remembering(), make_model()
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="one MoME adapter, and this one has 'default'"):
        model.load_adapter(str(tmp_path), "second")
    assert not len(inner(model).bank.touched())
    model.load_adapter(str(tmp_path), "default")
    assert_same(model, other)


def test_the_adapter_can_be_set_switched_and_taken_off() -> None:
    model, backbone = remembering(), make_backbone()
    expected = generated(model)
    model.set_adapter("default")
    assert generated(model) == expected
    with model.disable_adapter():
        assert generated(model) == generated(backbone)
    inner(model).disable_adapter_layers()
    assert generated(model) == generated(backbone)
    inner(model).enable_adapter_layers()
    assert generated(model) == expected


@pytest.mark.parametrize("copied", [False, True])
def test_unload_gives_the_backbone_as_it_was(copied: bool) -> None:
    model, backbone = remembering(), make_backbone()
    if copied:
        model = through_pickle(model)
    bare = model.unload()
    assert type(bare) is type(backbone)
    found, expected = bare.state_dict(), backbone.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert generated(bare) == generated(backbone)
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in bare.modules())
