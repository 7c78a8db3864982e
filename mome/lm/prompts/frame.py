"""Prompts as tokens: a prompt form around the user's words, in which special tokens are text, and what a router reads.

The special tokens of a chat template are read as such, and those that a user writes never: a question that names one
is tokenized in three parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, takewhile

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mome.lm.prompts.form import CHOSEN, DEFAULT, History, PromptForm, prompt_form, template_pieces

KEPT = "mome_frame"  # attribute of a tokenizer
# With nothing in common at either end: what the tokens of all of them share belongs to the frame.
PROBES = ("Why?", "7 boats", "is it so.", "(Zo", "über 3")


@dataclass(frozen=True, slots=True)
class Frame:
    """A prompt form for one tokenizer: how many tokens stand before (`head`) and after (`tail`) what the router reads.

    A chat template has a `reader`, a copy of the tokenizer that reads special tokens as such, and finds their names in
    a text by `names`.
    """

    form: PromptForm
    head: int
    tail: int
    reader: PreTrainedTokenizerBase | None
    names: re.Pattern[str] | None


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The frame of the tokenizer's prompt form, made when it is first needed."""
    form, known = prompt_form(tokenizer), vars(tokenizer).get(KEPT)
    if known is None or known.form != form:
        known = vars(tokenizer)[KEPT] = _frame(tokenizer, form)
    found: Frame = known
    return found


def _frame(tokenizer: PreTrainedTokenizerBase, form: PromptForm) -> Frame:
    reader, names = None, None
    if form.whole:
        return Frame(form, 0, 0, reader, names)
    if form.template:
        reader = deepcopy(tokenizer)
        for attribute in (CHOSEN, DEFAULT, KEPT):
            vars(reader).pop(attribute, None)
        reader.split_special_tokens = False
        texts = sorted({*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}, key=len, reverse=True)
        names = re.compile("|".join(map(re.escape, texts)) or r"(?!)")  # without any: never found
    whole = Frame(form, 0, 0, reader, names)
    rows = [_read(tokenizer, whole, [form.before, form.after], [probe]) for probe in PROBES]
    return Frame(form, _shared(rows), _shared([row[::-1] for row in rows]), reader, names)


def _shared(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows start with."""
    return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False)))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], history: History = ()) -> list[list[int]]:
    """Token ids of each question in the tokenizer's prompt form, special tokens included, after the turns `history`.

    Raises:
        PromptError: the chat template cannot be rendered.
    """
    frame = frame_of(tokenizer)
    pieces = _pieces(tokenizer, frame.form, len(history))
    earlier = list(chain.from_iterable(history))
    texts = [[*earlier, question] for question in questions]
    if frame.reader is not None:
        return [_read(tokenizer, frame, pieces, each) for each in texts]
    found = tokenizer([_woven(pieces, each) for each in texts])
    pairs = zip(found["input_ids"], found["attention_mask"], strict=True)
    return [[token for token, real in zip(*pair, strict=True) if real] for pair in pairs]  # another thread may pad


def _pieces(tokenizer: PreTrainedTokenizerBase, form: PromptForm, earlier: int) -> list[str]:
    """The texts between which the turns stand; those of a single turn are the form's own."""
    if not earlier:
        return [form.before, form.after]
    if form.template:
        return template_pieces(tokenizer, earlier)
    between = [form.after + form.gap, f"\n{form.before}"]
    return [form.before, *between * earlier, form.after]


def _read(tokenizer: PreTrainedTokenizerBase, frame: Frame, pieces: Sequence[str], texts: Sequence[str]) -> list[int]:
    """The ids of a conversation: as one text, or in parts where a user's text names a special token."""
    if frame.reader is None:
        return list(tokenizer(_woven(pieces, texts))["input_ids"])
    assert frame.names is not None
    if not any(map(frame.names.search, texts)):
        return list(frame.reader(_woven(pieces, texts), add_special_tokens=False)["input_ids"])
    parts = [frame.reader(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return list(chain.from_iterable(chain.from_iterable(zip(parts, [*words, []], strict=True))))


def routed_texts(tokenizer: PreTrainedTokenizerBase, ids: Tensor, read: Tensor) -> list[str]:
    """What the user said in each row of token `ids` [Q, T]: the text of the tokens that the router reads (`read`).

    Special tokens are left out, and so is the frame where the router reads the whole prompt.
    """
    rows = [row[marks].tolist() for row, marks in zip(ids.cpu(), read.cpu(), strict=True)]
    texts = [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    form = prompt_form(tokenizer)
    if not form.whole:
        return texts
    return [text.removeprefix(form.before.strip()).removesuffix(form.after.strip()).strip() for text in texts]


def _woven(pieces: Sequence[str], texts: Sequence[str]) -> str:
    return "".join(chain.from_iterable(zip(pieces, [*texts, ""], strict=True)))


def routed_part(tokenizer: PreTrainedTokenizerBase, tokens: int) -> tuple[int, int]:
    """Start and stop of the part of a prompt of so many `tokens` that the router reads.

    That is the user's words; of `Q: ... A:` it is the whole prompt, as the tiny backbones' results were measured so.
    At least one token is left, whatever the tokenizer makes of the words.
    """
    frame = frame_of(tokenizer)
    if frame.form.whole:
        return 0, tokens
    stop = max(tokens - frame.tail, 1)
    return min(frame.head, stop - 1), stop
