"""The formats in which free questions are asked: as tuned, in the chat template, bare, and inside prose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.lm.generation import greedy_answers
from mome.lm.prompts.form import QA, PromptForm, chat_form, chosen_form, prompt_form, with_prompt
from mome.replication.damage.sets import Item

# a passage that ends where the answer should come (ours)
PROSE = PromptForm(
    "The rain had stopped by the time they reached the inn, and the two travellers sat down close to the fire. The "
    'younger one looked into the flames for a while and then turned to the other. "',
    '" he asked. The old man put down his cup, thought for a moment and answered: "',
    gap="",
    whole=True,  # in a running text nothing marks the words of a user
)


def free_formats(tokenizer: PreTrainedTokenizerBase) -> dict[str, PromptForm]:
    """The formats of free questions: tuned_format (the tokenizer's own), chat if it has a template, qa, bare, prose.

    `Q: ... A:` is left out where it is the tuned one. Chat is there even where it is, under both names.
    """
    tuned = prompt_form(tokenizer)
    chat = {"chat": chat_form(tokenizer)} if tokenizer.chat_template else {}
    other = {} if tuned == QA else {"qa": QA}
    return {"tuned_format": tuned, **chat, **other, "bare": chosen_form(tokenizer, "{question}"), "prose": PROSE}


def known_formats(tokenizer: PreTrainedTokenizerBase) -> dict[str, PromptForm]:
    """The prompts under which known questions are asked: qa, chat if the tokenizer has a template, question_answer."""
    chat = {"chat": chat_form(tokenizer)} if tokenizer.chat_template else {}
    return {"qa": QA, **chat, "question_answer": chosen_form(tokenizer, "Question: {question}\nAnswer:")}


def answers_in(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    formats: Mapping[str, PromptForm],
    longest: int,
) -> pandas.DataFrame:
    """The greedy answer to each item in each format, of at most `longest` tokens (`mome.lm.generation`).

    Which items are answered together depends on them alone, so models with equal weights give equal answers. A format
    that is there under two names is asked once. Columns: format, item (id), answer.
    """
    texts, said = [item.text for item in items], dict[PromptForm, list[str]]()
    for form in tqdm(dict.fromkeys(formats.values()), desc="free answers", unit="format", leave=False):
        said[form] = greedy_answers(model, with_prompt(tokenizer, form), texts, longest)
    parts = [
        pandas.DataFrame({"format": name, "item": [item.id for item in items], "answer": said[form]})
        for name, form in formats.items()
    ]
    return pandas.concat(parts, ignore_index=True)
