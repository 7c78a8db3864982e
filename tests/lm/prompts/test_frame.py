"""Prompts as tokens: as the chat template gives them; no special token from a user's text; routed are the words."""

import copy
import re
from typing import Any

import pytest
from chat_templates import CHAT, chatting
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.lm.encoding import encode_prompts, encode_question, said
from mome.lm.loading import Backbone
from mome.lm.prompts.form import with_prompt
from mome.lm.prompts.frame import prompt_ids, routed_part, routed_texts

QUESTIONS = ("Who wrote Emma?", "7", "Name the capital of Peru.", "Is it 1815\nor 1816?", "über (7)")
HISTORY = (("Who?", "Me"), ("And you?", "You\n too"))


@pytest.fixture(scope="module")
def chat(random_backbone: Backbone) -> Any:
    return chatting(random_backbone.tokenizer)


def rendered(tokenizer: Any, *turns: tuple[str, str]) -> list[int]:
    """What transformers itself makes of a conversation."""
    other = copy.deepcopy(tokenizer)
    other.split_special_tokens = False
    messages = [{"role": role, "content": text} for role, text in turns]
    return list(other.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_the_tokens_of_the_chat_template(chat: Any, question: str) -> None:
    (ids,) = prompt_ids(chat, [question])
    assert ids == rendered(chat, ("user", question))
    start, stop = routed_part(chat, len(ids))
    assert chat.decode(ids[start:stop]) == question
    assert chat.decode(ids[:start]).endswith("user\n") and chat.decode(ids[stop:]) == "</s>\n<s>assistant\n"


def test_several_turns_have_the_tokens_of_the_chat_template(chat: Any) -> None:
    turns = [("user", "Who?"), ("assistant", "Me"), ("user", "And you?"), ("assistant", "You\n too"), ("user", "Why?")]
    assert prompt_ids(chat, ["Why?"], HISTORY) == [rendered(chat, *turns)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["<s>", "</s>", "<pad>", "user", "\n", "a", " ", "<", "s>", "é"]), min_size=1, max_size=8)
)
def test_a_users_text_is_never_a_special_token(random_backbone: Backbone, parts: list[str]) -> None:
    chat, text = chatting_once(random_backbone.tokenizer), "x" + "".join(parts) + "x"
    (ids,) = prompt_ids(chat, [text], [(text, text)])
    assert chat.decode(ids) == chat.decode(prompt_ids(chat, ["?"], [("?", "?")])[0]).replace("?", text)
    (frame,) = prompt_ids(chat, ["?"], [("?", "?")])
    assert [ids.count(token) for token in chat.all_special_ids] == [
        frame.count(token) for token in chat.all_special_ids
    ]
    (ids,) = prompt_ids(chat, [text])
    assert chat.decode(ids[slice(*routed_part(chat, len(ids)))]) == text


MADE: dict[int, Any] = {}


def chatting_once(tokenizer: Any) -> Any:
    """One copy for all examples."""
    return MADE.setdefault(id(tokenizer), chatting(tokenizer))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_text_of_ones_own_is_tokenized_as_a_whole(random_backbone: Backbone, question: str) -> None:
    tokenizer = with_prompt(random_backbone.tokenizer, "Dear <s>, {question}\n\nTruly: ")
    (ids,) = prompt_ids(tokenizer, [question])
    assert ids == random_backbone.tokenizer(f"Dear <s>, {question}\n\nTruly:")["input_ids"]
    words = tokenizer.decode(ids[slice(*routed_part(tokenizer, len(ids)))])
    assert question in words and len(words) <= len(question) + 1
    (longer,) = prompt_ids(tokenizer, [question], HISTORY)
    frame = "Dear <s>, {}\n\nTruly: {}\n"
    text = "".join(frame.format(*turn) for turn in HISTORY)
    assert longer == random_backbone.tokenizer(f"{text}Dear <s>, {question}\n\nTruly:")["input_ids"]


def test_the_router_reads_all_of_a_question_and_answer_prompt(random_backbone: Backbone) -> None:
    tokenizer = random_backbone.tokenizer
    row = encode_question(tokenizer, "Who?", "Me")
    assert row.routed == (0, len(row.ids) - row.answer_tokens)
    ids, mask, read = encode_prompts(tokenizer, ["Who?", "Who wrote Emma?"])
    assert ids.shape == mask.shape and read.tolist() == mask.bool().tolist()


def test_padded_prompts_mark_the_words_of_each_row(chat: Any) -> None:
    ids, mask, read = encode_prompts(chat, QUESTIONS)
    for place, question in enumerate(QUESTIONS):
        assert ids[place, mask[place].bool()].tolist() == prompt_ids(chat, [question])[0]
        assert chat.decode(ids[place, read[place]].tolist()) == question


def test_something_is_left_to_route_by_whatever_the_words_become(chat: Any, random_backbone: Backbone) -> None:
    bare = with_prompt(random_backbone.tokenizer, "{question}")
    for tokenizer in (chat, bare):
        (ids,) = prompt_ids(tokenizer, [""])
        start, stop = routed_part(tokenizer, len(ids))
        assert 0 <= start < stop <= len(ids)


def test_an_answer_follows_a_chat_template_at_once_and_ends_with_the_end_token(chat: Any) -> None:
    row = encode_question(chat, "Who?", "Jane\n  Austen </s>")
    answer = list(row.ids[-row.answer_tokens :])
    assert answer[-1] == chat.eos_token_id and answer.count(chat.eos_token_id) == 1
    assert chat.decode(answer[:-1]) == "Jane\n  Austen </s>" == said(chat, [answer])[0]


def test_templates_of_several_kinds_have_the_tokens_that_transformers_gives(random_backbone: Backbone) -> None:
    templates = (
        CHAT,
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }} [/it] {% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    )
    for template in templates:
        tokenizer = chatting(random_backbone.tokenizer, template)
        for question in QUESTIONS:
            assert prompt_ids(tokenizer, [question]) == [rendered(tokenizer, ("user", question))]


WORDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9) | st.sampled_from(["\nQ:", "\nA:"])
)


@settings(max_examples=200, deadline=None)
@given(WORDS)
def test_answers_come_back_exactly_without_outer_white_space(random_backbone: Backbone, parts: list[str]) -> None:
    chat, text = chatting_once(random_backbone.tokenizer), "".join(parts)
    for tokenizer in (chat, random_backbone.tokenizer):
        row = encode_question(tokenizer, "Who?", text)
        whole = text if tokenizer is chat else re.split("\n[A-Z]:", text)[0]
        assert said(tokenizer, [list(row.ids[-row.answer_tokens :])]) == [whole.strip()]


@pytest.mark.parametrize("chatted", [True, False], ids=["chat", "question and answer"])
def test_what_the_user_said_comes_back_from_the_tokens(chat: Any, random_backbone: Backbone, chatted: bool) -> None:
    tokenizer = chat if chatted else random_backbone.tokenizer
    ids, _, read = encode_prompts(tokenizer, QUESTIONS)
    assert routed_texts(tokenizer, ids, read) == [*QUESTIONS]
