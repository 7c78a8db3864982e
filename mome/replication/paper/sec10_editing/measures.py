"""The editing field's measures, by free generation: reliability, generality, locality, portability, retention.

Reliability: an edited question gets the new answer. Retention: it still does after further edits. Generality: a
paraphrase that no edit showed gets it too. Locality: other facts and general questions that were answered rightly
before the edits still are. Portability: a one-hop question, whose answer follows from the new one, is answered rightly.
Teacher forcing is the field's usual measure of reliability: the share of the answer's tokens that are predicted when
all tokens before them are given.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy
import torch
from transformers import PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.encoding import collate, encode_question
from mome.lm.losses import BATCH_ROWS, answer_logits
from mome.replication.paper.sec10_editing.stream import Stream, StreamEdit

MEASURES = ("reliability", "generality", "locality", "portability", "teacher_forced")
UNTRAINED = ("locality", "portability")  # questions whose answers no edit taught, so that a backbone words them itself
Judge = Callable[[str, str], bool]  # whether a free answer (first) gives the right one (second)


class EditingMethod(Protocol):
    """A method that holds the stream's facts, as far as it can, and takes its edits one by one.

    `model` is what answers by next-token probabilities, None where it does not alone decide (retrieval).
    """

    model: Any
    tokenizer: Any

    def answer(self, questions: Sequence[str]) -> list[str]:
        """A free greedy answer to each question."""

    def apply(self, edit: StreamEdit) -> bool:
        """Make one edit; False if the method refused it and changed nothing."""

    def mark(self) -> Callable[[], None]:
        """A function that brings the present state back."""


@dataclass
class Counts:
    """How many of `asked` were `right`, by measure; teacher forcing counts tokens."""

    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MEASURES, 0))
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MEASURES, 0))

    def add(self, measure: str, outcomes: Sequence[bool]) -> None:
        """Count these outcomes as well."""
        self.right[measure] += sum(outcomes)
        self.asked[measure] += len(outcomes)

    def as_row(self) -> dict[str, float]:
        """Share and number of each measure; NaN where nothing was asked."""
        row: dict[str, float] = {}
        for measure in MEASURES:
            count = self.asked[measure]
            row |= {measure: self.right[measure] / count if count else float("nan"), f"{measure}_n": count}
        return row


@dataclass
class Times:
    """Seconds of each edit, by the clock and of all CPU cores, and how many edits the method refused."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    refused: int = 0

    def apply(self, method: EditingMethod, edit: StreamEdit) -> None:
        """Make one edit, timed."""
        started, cpu = time.perf_counter(), time.process_time()
        self.refused += not method.apply(edit)
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - cpu)

    def as_row(self) -> dict[str, float]:
        """Median and 95% quantile of the seconds an edit, the median of its CPU seconds, and the refused edits."""
        median, cpu = float(numpy.median(self.seconds)), float(numpy.median(self.cpu_seconds))
        most = float(numpy.quantile(self.seconds, 0.95))
        return {"seconds": median, "seconds_p95": most, "cpu_seconds": cpu, "refused": self.refused}


class Watch:
    """Asks a method about the edits of `stream`, and about what they must not change.

    Only questions that the method answers rightly when the watch is made count for locality. `fewer` limits the
    other facts and the general questions (as many of each at most), where they are asked after every edit. `right`
    judges the answers to questions that no edit taught; what was taught must be given exactly.
    """

    def __init__(
        self, method: EditingMethod, stream: Stream, fewer: int | None = None, right: Judge = operator.eq
    ) -> None:
        self.method, self.right = method, right
        kept = [*stream.others[:fewer], *stream.general[:fewer]]
        answers = method.answer([fact.question for fact in kept])
        self.kept = [fact for fact, answer in zip(kept, answers, strict=True) if right(answer, fact.answer)]

    def ask(self, edits: Sequence[StreamEdit], counts: Counts) -> None:
        """Count how the method answers, now, about `edits` that were made."""
        facts = [edit.fact for edit in edits]
        hops = [edit.hop for edit in edits if edit.hop]
        asked = {
            "reliability": [(fact.question, fact.answer) for fact in facts],
            "generality": [(text, fact.answer) for fact in facts for text in fact.held_out[:1]],
            "locality": [(fact.question, fact.answer) for fact in self.kept],
            "portability": [(hop.question, hop.answers[0]) for hop in hops],
        }
        flat = [pair for pairs in asked.values() for pair in pairs]
        answers = iter(self.method.answer([question for question, _ in flat]))
        for measure, pairs in asked.items():
            judge = self.right if measure in UNTRAINED else operator.eq
            counts.add(measure, [judge(next(answers), right) for _, right in pairs])
        if self.method.model is not None:
            counts.add("teacher_forced", teacher_forced(self.method.model, self.method.tokenizer, facts))


@torch.no_grad()
def teacher_forced(model: Any, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> list[bool]:
    """Whether each token of each answer is the likeliest one, given the question and the answer's tokens before it.

    The end of sequence is left out, as in the editing field's code.
    """
    rows = [encode_question(tokenizer, fact.question, fact.answer) for fact in facts]
    rows.sort(key=lambda row: len(row.ids))
    found: list[bool] = []
    for start in range(0, len(rows), BATCH_ROWS):
        batch = collate(rows[start : start + BATCH_ROWS], tokenizer.pad_token_id, model.device)
        right = answer_logits(model, batch).argmax(dim=2) == batch.ids[:, -batch.answer_tokens :]  # [B, A]
        found += right[:, :-1][batch.answer_mask[:, :-1]].tolist()
    return found


def single_edits(
    method: EditingMethod, stream: Stream, count: int, fewer: int = 60, right: Judge = operator.eq
) -> tuple[Counts, Times]:
    """Make each of the first `count` edits alone: it is asked for, and taken back before the next one."""
    watch, counts, times = Watch(method, stream, fewer, right), Counts(), Times()
    for edit in stream.edits[:count]:
        restore = method.mark()
        times.apply(method, edit)
        watch.ask([edit], counts)
        restore()
    return counts, times


def sequential_edits(
    method: EditingMethod, stream: Stream, sizes: Sequence[int], right: Judge = operator.eq
) -> Iterator[tuple[int, Counts, Times]]:
    """Make the stream's edits one after another; after each number in `sizes`, ask for all edits up to there."""
    watch, times = Watch(method, stream, right=right), Times()
    for number, edit in enumerate(stream.edits[: max(sizes, default=0)], start=1):
        times.apply(method, edit)
        if number in sizes:
            counts = Counts()
            watch.ask(stream.edits[:number], counts)
            yield number, counts, Times(list(times.seconds), list(times.cpu_seconds), times.refused)
