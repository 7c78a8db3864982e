"""Retrieval of worked examples by BM25, and the prompts that show them to a reader."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy
from transformers import PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.prompts.frame import prompt_ids
from mome.replication.methods.bm25 import bm25s

WORD = r"(?u)\b\w+\b"  # bm25s leaves out words of one letter, such as a status code
ANSWER_ROOM = 110  # tokens left for the SQL; the longest shipped one has 98
SHOWN = 3
SPARE = 150  # tokens by which exchanged words may lengthen a prompt
FRAME = ("Q", "A")


class Examples:
    """Question-SQL pairs, found by the BM25 score of their nearest wording (bm25s, its default k1 and b).

    No stop words are removed: on the tuned pairs' held-out wordings that finds more (LOG.md).
    """

    def __init__(self, pairs: Sequence[Fact]) -> None:
        if not pairs:
            raise ValueError("Examples: there are no pairs to retrieve")
        self.pairs = list(pairs)
        worded = [(place, text) for place, pair in enumerate(pairs) for text in pair.wordings()]
        self.owners = numpy.array([place for place, _ in worded])
        self.index = bm25s.BM25()
        self.index.index(_words([text for _, text in worded]), show_progress=False)

    def scores(self, question: str) -> numpy.ndarray:
        """Each pair's BM25 score, that of its best wording: f32 [pairs], 0 where no wording shares a word."""
        (words,) = _words([question])
        best = numpy.zeros(len(self.pairs), numpy.float32)
        if words:  # bm25s refuses a question without any
            numpy.maximum.at(best, self.owners, self.index.get_scores(words))
        return best

    def nearest(self, question: str, count: int = SHOWN, leave_out: str | None = None) -> list[Fact]:
        """The `count` pairs with the best wording, the best one first; equal scores in the pairs' order.

        `leave_out` is the id of a pair not to be given.
        """
        order = numpy.argsort(-self.scores(question), kind="stable").tolist()
        return [self.pairs[place] for place in order if self.pairs[place].id != leave_out][:count]

    def prompt(
        self, tokenizer: PreTrainedTokenizerBase, question: str, context: int, leave_out: str | None = None
    ) -> str:
        """The question behind its nearest pairs, the best one last, as one text that the prompt form frames.

        The farthest pairs are dropped until the prompt and an answer fit into `context` tokens.
        """
        shown = self.nearest(question, leave_out=leave_out)[::-1]
        while True:
            text = "".join(f"{pair.question}\nA: {pair.answer}\nQ: " for pair in shown) + question
            if not shown or len(prompt_ids(tokenizer, [text])[0]) + ANSWER_ROOM <= context:
                return text
            shown = shown[1:]


def practice_prompts(
    pairs: Sequence[Fact], tokenizer: PreTrainedTokenizerBase, context: int, count: int, seed: int
) -> list[Fact]:
    """`count` times a pair (of another database), asked in its held-out wording behind what BM25 finds for it.

    In each prompt every word of questions and SQL is exchanged for a random one, the same wherever it stands, so that
    nothing but reading the examples leads to the answer. Drawn by `seed`.
    """
    examples, draw = Examples(pairs), numpy.random.default_rng([seed, count])
    asked = [fact.question for fact in (*pairs, *shipped_facts("known"))]
    words = sorted({word for text in asked for word in re.findall(WORD, text)} - {*FRAME})
    prompts: dict[str, str] = {}
    found = []
    for turn, place in enumerate(draw.integers(len(pairs), size=count).tolist()):
        pair = pairs[place]
        if pair.id not in prompts:
            prompts[pair.id] = examples.prompt(tokenizer, pair.held_out[0], context - SPARE)
        exchanged = _exchange(f"{prompts[pair.id]}\n{pair.answer}", words, draw)
        question, _, answer = exchanged.rpartition("\n")
        found.append(Fact(f"{pair.id}/{turn}", question, answer))
    return found


def _exchange(text: str, words: Sequence[str], draw: numpy.random.Generator) -> str:
    """Another word for each word but the Q and A that frame examples."""
    own = [word for word in dict.fromkeys(re.findall(WORD, text)) if word not in FRAME]
    other = dict(zip(own, draw.choice(words, size=len(own), replace=False).tolist(), strict=True))
    return re.sub(WORD, lambda match: other.get(match[0], match[0]), text)


def _words(texts: Sequence[str]) -> list[list[str]]:
    found = bm25s.tokenize(list(texts), stopwords=None, token_pattern=WORD, return_ids=False, show_progress=False)
    return [list(words) for words in found]
