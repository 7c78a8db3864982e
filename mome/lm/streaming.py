"""A greedy answer that is shown while it is generated, token by token."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from mome.lm.encoding import said
from mome.lm.generation import generated
from mome.lm.prompts.form import History, prompt_form

Show = Callable[[str], None]
UNFINISHED = re.compile("\ufffd{1,3}\\Z")  # what the first bytes of a character, at most 3, are decoded to


def streamed_answer(
    model: Any, tokenizer: PreTrainedTokenizerBase, question: str, longest: int, history: History, show: Show
) -> str:
    """The model's greedy answer to one question after the turns of `history`, of at most `longest` tokens.

    It is the one of `greedy_answers`. `show` is given its text in pieces as they come; generation ends where `said`
    ends the answer.
    """
    stream = Stream(tokenizer, show)
    options = {"do_sample": False, "streamer": stream, "stopping_criteria": [stream.ended]}
    return generated(model, tokenizer, [question], longest, history, **options)[0]


class Stream(BaseStreamer):
    """Takes the tokens of one generation and passes on their text as soon as no later token can change it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show: Show) -> None:
        self.tokenizer, self.show = tokenizer, show
        self.form = prompt_form(tokenizer)
        self.ids: list[int] = []
        self.shown = ""
        self.prompted = False

    def put(self, value: Tensor) -> None:
        """Take the prompt's ids [1, T] first, then one token [1] at a time."""
        if not self.prompted:
            self.prompted = True
            return
        self.ids += value.flatten().tolist()
        self._pass_on(self._settled(self._whole()))

    def end(self) -> None:
        """Pass on the rest."""
        self._pass_on(said(self.tokenizer, [self.ids])[0])

    def ended(self, ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether another question begins [1] bool: what generation asks after each token."""
        whole = self._whole()
        return torch.full((len(ids),), self.form.cut(whole) != whole, device=ids.device)

    def _whole(self) -> str:
        """All text so far, with what may follow the answer."""
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def _settled(self, whole: str) -> str:
        """The answer so far, without an unfinished character or an end that may become the start of a question."""
        text = UNFINISHED.sub("", self.form.cut(whole))
        begun = [stop[:length] for stop in self.form.stops for length in range(1, len(stop))]
        return text.removesuffix(max(filter(text.endswith, begun), key=len, default="")).strip()

    def _pass_on(self, text: str) -> None:
        if text.startswith(self.shown) and text != self.shown:
            self.show(text[len(self.shown) :])
            self.shown = text
