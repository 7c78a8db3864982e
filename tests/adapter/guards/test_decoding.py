"""KV caches that come from elsewhere: a question is read whole, by its own experts, or refused."""

import copy
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, inner, make_backbone, padded, questions, taught_model
from transformers import DynamicCache, StaticCache

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=FAMILIES)
def taught(request: pytest.FixtureRequest) -> Any:
    """A model of each family; it stays as it is."""
    return taught_model(request.param)


@pytest.fixture(scope="module")
def llama() -> Any:
    return taught_model()


def asked() -> dict[str, torch.Tensor]:
    """Two questions that start alike, and not as any that was taught."""
    ids = questions(4)[:2].clone()
    ids[:, :3] = torch.tensor([7, 11, 13])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def generated(model: Any, inputs: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    return model.generate(**inputs, **{"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, **options})


@torch.no_grad()
def filled(model: Any, ids: torch.Tensor) -> DynamicCache:
    """A cache with these tokens."""
    return model(input_ids=ids, past_key_values=DynamicCache(config=model.config), use_cache=True).past_key_values


@pytest.mark.parametrize("known", [1, 3, 8], ids=["one token", "the shared prefix", "all but the last token"])
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
def test_a_cached_beginning_gives_the_answer_of_the_whole_prompt(
    taught: Any, known: int, options: dict[str, Any]
) -> None:
    inputs = asked()
    expected = generated(taught, inputs, **options)
    wanted = inner(taught).selection.routes.ids
    rows = 2 if options else 1
    cache = filled(taught, inputs["input_ids"][:, :known].repeat_interleave(rows, dim=0))
    assert torch.equal(generated(taught, inputs, past_key_values=cache, **options), expected)
    assert torch.equal(inner(taught).selection.routes.ids, wanted)


def test_a_beginning_that_another_model_read_is_read_again(llama: Any) -> None:
    inputs = asked()
    expected = generated(llama, inputs)
    cache = filled(make_backbone(), inputs["input_ids"][:, :3])
    assert torch.equal(generated(llama, inputs, past_key_values=cache), expected)


def test_a_beginning_is_read_again_from_embeddings_and_with_padding(llama: Any) -> None:
    inputs = padded([asked()["input_ids"][0], questions(1, 5, seed=7)[0]], "left")
    expected, embed = generated(llama, inputs), llama.get_input_embeddings()
    cache = filled(llama, inputs["input_ids"][:, :6])
    assert torch.equal(generated(llama, inputs, past_key_values=cache), expected)
    whole = {"inputs_embeds": embed(inputs["input_ids"]), "attention_mask": inputs["attention_mask"]}
    cache = filled(llama, inputs["input_ids"][:, :6])
    assert torch.equal(generated(llama, whole, past_key_values=cache), expected[:, 9:])


def test_a_conversation_and_another_question_in_one_cache_are_each_read_whole(llama: Any) -> None:
    first = {name: values[:1] for name, values in asked().items()}
    cache = DynamicCache(config=llama.config)
    turn = generated(llama, first, past_key_values=cache)
    ids = torch.cat([turn, questions(1, 5, seed=9)], dim=1)
    second = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    shared = copy.deepcopy(cache)
    expected = generated(llama, second)
    assert torch.equal(generated(llama, second, past_key_values=cache), expected)
    assert cache.get_seq_length() == expected.shape[1] - 1
    assert torch.equal(generated(llama, second, past_key_values=shared), expected)
    cache.crop(-12)
    other = {name: values[1:] for name, values in asked().items()}
    longer = {name: torch.cat([values, values], dim=1) for name, values in other.items()}
    assert torch.equal(generated(llama, longer, past_key_values=cache), generated(llama, longer))


def test_decoding_goes_on_with_the_experts_of_the_question_it_answers(llama: Any) -> None:
    """After `generate` has filled a cache that held a prefix, a plain loop may go on, and one step back."""
    inputs, cache = asked(), filled(llama, asked()["input_ids"][:, :3])
    expected = generated(llama, inputs, max_new_tokens=9)
    tokens = generated(llama, inputs, past_key_values=cache, max_new_tokens=6)
    cache.crop(-1)
    with torch.no_grad():
        for _ in range(3):
            last = tokens[:, cache.get_seq_length() :][:, :1]
            step = llama(input_ids=last, past_key_values=cache).logits[:, -1:].argmax(dim=2)
            tokens = torch.cat([tokens[:, : cache.get_seq_length()], step], dim=1)
    assert torch.equal(tokens, expected[:, : tokens.shape[1]])


def test_held_experts_take_what_follows_in_pieces(llama: Any) -> None:
    ids = asked()["input_ids"]
    with torch.no_grad():
        whole = llama(input_ids=ids, prompt_mask=(torch.arange(9) < 5).expand(2, -1)).logits
        first = llama(input_ids=ids[:, :5], use_cache=True)
        with inner(llama).using(inner(llama).selection):
            rest = llama(input_ids=ids[:, 5:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], dim=1), whole, rtol=1e-5, atol=2e-5)


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_pass_that_adds_a_part_of_a_prompt_is_refused(llama: Any) -> None:
    ids = asked()["input_ids"]
    for given in ({"input_ids": ids[:, 3:]}, {"inputs_embeds": llama.get_input_embeddings()(ids[:, 3:])}):
        with torch.no_grad(), pytest.raises(RuntimeError, match=r"past_key_values: .* followed by 6 tokens.* whole"):
            llama(**given, past_key_values=filled(llama, ids[:, :3]))


def test_a_cache_that_was_changed_elsewhere_is_refused(llama: Any) -> None:
    ids, last = asked()["input_ids"], asked()["input_ids"][:, -1:]
    cropped, longer, fewer = (filled(llama, ids) for _ in range(3))
    cropped.crop(-2)
    with llama.disable_adapter(), torch.no_grad():
        llama(input_ids=last, past_key_values=longer)
    fewer.batch_select_indices(torch.tensor([0]))
    for cache, rows, message in ((cropped, 2, "holds 7 tokens"), (longer, 2, "holds 10"), (fewer, 1, "of 2 questions")):
        with torch.no_grad(), pytest.raises(RuntimeError, match=f"past_key_values: .*{message}"):
            llama(input_ids=last[:rows], past_key_values=cache)


def test_generate_refuses_the_rest_of_a_prompt_and_caches_of_a_fixed_size(llama: Any) -> None:
    inputs = asked()
    rest = inputs["input_ids"][:, 3:]
    for given in (
        {"input_ids": rest, "attention_mask": inputs["attention_mask"]},
        {"input_ids": rest[:, :2]},
        {"inputs_embeds": llama.get_input_embeddings()(rest), "attention_mask": inputs["attention_mask"]},
    ):
        cache = filled(llama, inputs["input_ids"][:, :3])
        with pytest.raises(ValueError, match=r"past_key_values holds 3 tokens.* whole prompt"):
            generated(llama, given, past_key_values=cache)
        assert cache.get_seq_length() == 3
    with pytest.raises(ValueError, match="StaticCache is not supported by MoME"):
        generated(llama, inputs, past_key_values=StaticCache(config=llama.config, max_cache_len=40))


def test_tuples_of_outputs_carry_the_choice_too(llama: Any) -> None:
    ids = asked()["input_ids"]
    with torch.no_grad():
        _, cache = llama(input_ids=ids, use_cache=True, return_dict=False)[:2]
        found = llama(input_ids=ids[:, :1], past_key_values=cache).logits
        same = llama(input_ids=ids[:, :1], past_key_values=filled(llama, ids)).logits
    assert torch.equal(found, same)
