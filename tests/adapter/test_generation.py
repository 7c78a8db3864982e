"""Generation: every way of decoding gives the same tokens, and asks for experts once, by the prompt."""

from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, PAD, inner, make_backbone, make_model, padded, questions, taught_model
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from mome.adapter.router import Router

REFUSED = {
    "prefill_chunk_size": 4,
    "prompt_lookup_num_tokens": 3,
    "assistant_early_exit": 1,
    "cache_implementation": "static",
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=FAMILIES)
def taught(request: pytest.FixtureRequest) -> Any:
    """A model of each family; it stays as it is."""
    return taught_model(request.param)


@pytest.fixture(scope="module")
def llama() -> Any:
    return taught_model()


def batch() -> dict[str, torch.Tensor]:
    """Two questions the experts know and a shorter one, padded left."""
    return padded([*questions(4)[:2], questions(1, 5, seed=7)[0]], "left")


def generated(model: Any, **options: Any) -> torch.Tensor:
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": PAD, "eos_token_id": None, **options}
    return model.generate(**{**batch(), **options})


# --- the cache -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "top_k": 20},
        {"do_sample": True, "num_beams": 2},
        {"do_sample": True, "num_return_sequences": 3},
    ],
    ids=["greedy", "beams", "sampling", "beam sampling", "three samples"],
)
def test_decoding_with_and_without_a_cache_gives_the_same_tokens(taught: Any, options: dict[str, Any]) -> None:
    results = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        results.append(generated(taught, use_cache=use_cache, **options))
    assert torch.equal(*results)
    assert results[0].shape[1] == batch()["input_ids"].shape[1] + 6


def test_what_was_taught_is_generated(taught: Any) -> None:
    tokens = taught.generate(input_ids=questions(4), max_new_tokens=3, do_sample=False, eos_token_id=None)
    learned = (tokens[:, -3:] == questions(4, 3, seed=2)).float().mean()
    assert learned > 0.8
    with taught.disable_adapter():
        tokens = taught.generate(input_ids=questions(4), max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert (tokens[:, -3:] == questions(4, 3, seed=2)).float().mean() < 0.3


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_generation_follows_whole_passes_with_the_same_experts(taught: Any, use_cache: bool) -> None:
    """The tokens of `generate` are the best ones of passes over all tokens, routed by the prompt alone."""
    inputs, tokens = batch(), generated(taught, use_cache=use_cache)
    length = inputs["input_ids"].shape[1]
    mask = torch.cat([inputs["attention_mask"], torch.ones(3, 6, dtype=torch.int64)], dim=1)
    prompt = mask.clone()
    prompt[:, length:] = 0
    with torch.no_grad():
        whole = taught(input_ids=tokens, attention_mask=mask, prompt_mask=prompt).logits
    assert torch.equal(whole[:, length - 1 : -1].argmax(dim=2), tokens[:, length:])


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("options", [{}, {"num_beams": 2, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_the_marked_tokens_of_a_prompt_choose_the_experts_of_a_generation(
    taught: Any, use_cache: bool, options: dict[str, Any]
) -> None:
    inputs = batch()
    marks = inputs["attention_mask"].bool()
    marks[:, -2:] = False  # as the frame of a chat template behind the words
    generated(taught, prompt_mask=marks, use_cache=use_cache, **options)
    found = inner(taught).selection.routes.ids
    with torch.no_grad():
        taught(**inputs, prompt_mask=marks)
        expected = inner(taught).selection.routes.ids
        taught(**inputs)
    assert torch.equal(found, expected.repeat_interleave(len(found) // len(expected), dim=0))
    assert not torch.equal(expected, inner(taught).selection.routes.ids)
    generated(taught)  # the marks are those of one generation
    assert not torch.equal(inner(taught).selection.routes.ids, expected)


def test_a_cached_loop_equals_a_whole_pass(taught: Any) -> None:
    tokens, known = questions(4), 5
    prompt = torch.zeros_like(tokens)
    prompt[:, :known] = 1
    with torch.no_grad():
        whole = taught(input_ids=tokens, prompt_mask=prompt).logits
        step = taught(input_ids=tokens[:, :known], use_cache=True)
        parts = [step.logits]
        for place in range(known, tokens.shape[1]):
            step = taught(input_ids=tokens[:, place : place + 1], past_key_values=step.past_key_values)
            parts.append(step.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=2e-5)


def test_two_caches_keep_their_own_experts(llama: Any) -> None:
    """Decoding of one question goes on with its experts after another question was read."""
    first, second = questions(4)[:1], questions(4)[1:2]
    with torch.no_grad():
        expected = llama(input_ids=first, prompt_mask=torch.arange(9)[None] < 6).logits[:, 6:]
        caches = [llama(input_ids=ids[:, :6], use_cache=True).past_key_values for ids in (first, second)]
        steps = [llama(input_ids=first[:, place : place + 1], past_key_values=caches[0]).logits for place in (6, 7)]
        llama(input_ids=second[:, 6:7], past_key_values=caches[1])
        steps.append(llama(input_ids=first[:, 8:9], past_key_values=caches[0]).logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-5, atol=2e-5)


def test_a_cache_that_this_model_did_not_fill_is_refused(llama: Any) -> None:
    with torch.no_grad():
        cache = make_backbone()(input_ids=questions(1), past_key_values=DynamicCache()).past_key_values
        with pytest.raises(RuntimeError, match="past_key_values"):
            llama(input_ids=questions(1)[:, :1], past_key_values=cache)


@pytest.mark.parametrize("use_cache", [True, False])
def test_experts_are_chosen_once_in_a_generation(llama: Any, monkeypatch: pytest.MonkeyPatch, use_cache: bool) -> None:
    asked: list[int] = []
    route = Router.route
    monkeypatch.setattr(
        Router, "route", lambda self, queries, *texts: (asked.append(len(queries)), route(self, queries, *texts))[1]
    )
    generated(llama, use_cache=use_cache)
    generated(llama, use_cache=use_cache, num_beams=2)
    assert asked == [3, 6]


def test_beams_and_samples_of_a_question_share_its_experts(llama: Any) -> None:
    generated(llama)
    alone = inner(llama).selection.routes.ids.sort(dim=1).values
    for options in ({"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}):
        generated(llama, **options)
        together = inner(llama).selection.routes.ids.sort(dim=1).values
        assert torch.equal(together, alone.repeat_interleave(3, dim=0))


def test_embeddings_in_place_of_tokens_give_the_same_tokens(llama: Any) -> None:
    inputs = batch()
    embeddings = llama.get_input_embeddings()(inputs["input_ids"])
    tokens = llama.generate(
        inputs_embeds=embeddings,
        attention_mask=inputs["attention_mask"],
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
    )
    assert torch.equal(tokens, generated(llama)[:, inputs["input_ids"].shape[1] :])


def test_a_failed_generation_leaves_nothing_behind(llama: Any) -> None:
    expected = generated(llama)

    def fail(*_: Any) -> torch.Tensor:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        generated(llama, logits_processor=LogitsProcessorList([fail]))
    assert not inner(llama).state.call.generating
    assert torch.equal(generated(llama), expected)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["argument", "generation_config", "third argument", "the model's generation_config"])
@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_modes_that_see_parts_of_a_prompt_are_refused_by_name(way: str, name: str, value: Any) -> None:
    model, ids, settings = make_model(), questions(1), GenerationConfig(**{name: value})
    with pytest.raises(ValueError, match=f"generate: {name}.* is not supported by MoME"):
        if way == "argument":
            model.generate(input_ids=ids, **{name: value})
        elif way == "generation_config":
            model.generate(input_ids=ids, generation_config=settings)
        elif way == "third argument":
            model.base_model.generate(ids, settings)
        else:
            model.generation_config = settings
            model.generate(input_ids=ids)


def test_an_assistant_and_continuous_batching_are_refused_by_name() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="generate: assistant_model is not supported"):
        model.generate(input_ids=questions(1), assistant_model=make_backbone())
    with pytest.raises(ValueError, match="generate_batch is not supported"):
        model.generate_batch(inputs=[[5, 6, 7]])
