"""Prompt forms: which one a tokenizer has, how one is chosen and kept, and which templates are refused."""

import copy
import pickle
from typing import Any

import pytest
from chat_templates import CHAT, chatting
from hypothesis import given
from hypothesis import strategies as st

from mome.lm.loading import Backbone, identity, load_backbone
from mome.lm.prompts.form import (
    QA,
    STOPS,
    PromptError,
    PromptForm,
    choose_prompt,
    chosen_form,
    prompt_form,
    template_pieces,
    with_prompt,
)

BEFORE, AFTER = "<s>system\nBe brief.</s>\n<s>user\n", "</s>\n<s>assistant\n"


@pytest.fixture
def tokenizer(random_backbone: Backbone) -> Any:
    return copy.deepcopy(random_backbone.tokenizer)


def test_a_tokenizer_without_template_asks_as_questions_and_answers(tokenizer: Any) -> None:
    assert prompt_form(tokenizer) == QA == PromptForm("Q: ", "\nA:", " ", STOPS, template=False, whole=True)
    assert (QA.name, QA.label) == ("qa", "qa")


def test_a_chat_template_is_the_default_where_there_is_one(tokenizer: Any) -> None:
    other = chatting(tokenizer)
    assert prompt_form(other) == PromptForm(BEFORE, AFTER, gap="", stops=(), template=True, whole=False)
    assert prompt_form(other).name == "chat"
    other.chat_template = CHAT.replace("brief", "kind")
    assert prompt_form(other).before == BEFORE.replace("brief", "kind")
    other.chat_template = None
    assert prompt_form(other) == QA


def test_a_chosen_form_stays_whatever_the_template_becomes(tokenizer: Any) -> None:
    other = chatting(tokenizer)
    choose_prompt(other, "qa")
    other.chat_template = CHAT + " "
    assert (
        prompt_form(other) == prompt_form(copy.deepcopy(other)) == prompt_form(pickle.loads(pickle.dumps(other))) == QA
    )


def test_a_copy_asks_in_another_form_and_the_tokenizer_as_before(tokenizer: Any) -> None:
    bare = with_prompt(tokenizer, "{question}")
    assert prompt_form(bare) == PromptForm("", "") and prompt_form(tokenizer) == QA


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Q: {question}\nA:", QA),
        ("Question: {question}\nAnswer:", PromptForm("Question: ", "\nAnswer:", " ", ("\nQuestion:", "\nAnswer:"))),
        ("Question: {question}\nAnswer: ", PromptForm("Question: ", "\nAnswer:", " ", ("\nQuestion:", "\nAnswer:"))),
        ("Be brief.\n\n### {question}\n", PromptForm("Be brief.\n\n### ", "\n", "", ("\n###",))),
        ("{question}", PromptForm("", "")),
        ("Who knows: {question} I say:", PromptForm("Who knows: ", " I say:", " ", ("\nWho knows:",))),
    ],
)
def test_a_text_of_ones_own(tokenizer: Any, text: str, form: PromptForm) -> None:
    assert chosen_form(tokenizer, text) == form
    assert form.name == ("qa" if form == QA else text.rstrip(" "))


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("Answer me", "'Answer me': must be auto, qa, chat, or a text that holds {question} once"),
        ("{question} {question}", "that holds {question} once"),
        ("", "'': must be auto"),
        ("chat", "has no chat template; use qa"),
    ],
)
def test_forms_that_cannot_be_are_refused(tokenizer: Any, prompt: str, problem: str) -> None:
    with pytest.raises(PromptError, match=problem.replace("{", r"\{").replace("?", r"\?")):
        choose_prompt(tokenizer, prompt)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ raise_exception('only systems may speak') }}", "cannot be rendered.*only systems may speak"),
        ("{{ nothing.at.all }}", "cannot be rendered"),
        ("hello", "does not show each message once"),
        ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", "does not show each message once"),
    ],
)
def test_templates_that_do_not_show_the_words_once_are_refused(tokenizer: Any, template: str, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        prompt_form(chatting(tokenizer, template))
    choose_prompt(tokenizer := chatting(tokenizer, template), "qa")
    assert prompt_form(tokenizer) == QA


def test_a_template_is_rendered_without_today_and_without_thoughts(tokenizer: Any) -> None:
    template = "{{ date_string }} {{ messages[0]['content'] }}{% if enable_thinking is false %}<no thoughts>{% endif %}"
    assert chosen_form(chatting(tokenizer, template)) == PromptForm(
        "26 Jul 2024 ", "<no thoughts>", gap="", template=True
    )


def test_the_pieces_of_several_turns(tokenizer: Any) -> None:
    between = ["</s>\n<s>assistant\n", "</s>\n<s>user\n"]
    assert template_pieces(chatting(tokenizer), 2) == [BEFORE, *between * 2, AFTER]


@given(
    st.builds(
        PromptForm,
        st.text(),
        st.text(),
        st.text(),
        st.lists(st.text(min_size=1)).map(tuple),
        st.booleans(),
        st.booleans(),
    )
)
def test_a_form_comes_back_from_json(form: PromptForm) -> None:
    assert PromptForm.from_json(form.as_json()) == form


def test_a_text_is_cut_at_the_first_stop() -> None:
    assert QA.cut(" Lima\nB: no") == " Lima" == QA.cut(" Lima\nZ:")
    assert QA.cut(" Lima\nA: no\nQ: why?") == " Lima" == QA.cut(" Lima\nQ: why?\nA: so")
    assert QA.cut("First\n\nQuestion: A: Q:\n Q:") == "First\n\nQuestion: A: Q:\n Q:"
    assert QA.cut("\nQ:") == "" and PromptForm("", "").cut("\nQ: \nA:") == "\nQ: \nA:"


NO_FORMS = [None, {}, {"before": ""}, {**QA.as_json(), "gap": 1}, {**QA.as_json(), "more": ""}]


@pytest.mark.parametrize("values", [*NO_FORMS, {**QA.as_json(), "stops": [""]}])
def test_what_is_no_form_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="prompt form"):
        PromptForm.from_json(values)


def test_the_form_is_part_of_what_a_run_is_known_by(backbone_folder: Any) -> None:
    name = str(backbone_folder)
    plain, other = load_backbone(name, "cpu"), load_backbone(name, "cpu", prompt="Say: {question}\n")
    assert prompt_form(other.tokenizer) == PromptForm("Say: ", "\n", "", ("\nSay:",))
    assert identity(other) == f"{identity(plain)} asked as {prompt_form(other.tokenizer).label}"
    assert identity(load_backbone(name, "cpu", prompt="Say: {question}\n\n")) not in (identity(plain), identity(other))
    with pytest.raises(PromptError, match="no chat template"):
        load_backbone(name, "cpu", prompt="chat")
