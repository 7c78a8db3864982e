"""kNN-LM (Khandelwal et al. 2020, named in the paper's section 10): the next token from the nearest stored states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from mome.adapter.anchors import least_score
from mome.facts.fact import Fact
from mome.files.records import Count, Positive, Settings, Share
from mome.lm.encoding import Encoded, collate, encode_question
from mome.lm.generation import greedy_answers
from mome.lm.losses import BATCH_ROWS, answer_losses
from mome.replication.methods.method import ABSTAINS, LONGEST, Holder, spoken
from mome.replication.notebook.backbones import asked_backbone


class KnnSettings(Settings):
    """`weight` of the neighbours' distribution; the softmax over the `neighbours` nearest cosines at `temperature`."""

    neighbours: Count = 16
    temperature: Positive = 0.02
    weight: Share = 0.9


class KnnLm(Holder):
    """A frozen backbone whose next-token distribution is mixed with that of the nearest states in a datastore.

    For each answer token of each fact's first `wordings` wordings the datastore has the last hidden state before it
    (scaled to length 1, f16) and the token. With `false_alarms` the method has a rejection threshold with this
    false-positive rate on the out-of-scope questions `calibration`: it abstains if no stored state is as similar to the
    first one. Edits add and drop rows.
    """

    def __init__(
        self,
        name: str,
        backbone: str,
        settings: KnnSettings,
        *,
        wordings: int = 1,
        calibration: Sequence[str] = (),
        false_alarms: float | None = None,
    ) -> None:
        super().__init__()
        loaded = asked_backbone(backbone)
        self.model: Any = loaded.model
        self.tokenizer: Any = loaded.tokenizer
        self.name, self.settings, self.wordings = name, settings, wordings
        self.calibration, self.false_alarms, self.least = calibration, false_alarms, -numpy.inf
        self._empty()

    def fit(self, facts: Sequence[Fact]) -> None:
        """Fill a new datastore and set the least trust; raises ValueError without facts."""
        self.take(facts)
        self._empty()
        self._store(facts)
        self.least = -numpy.inf
        if self.false_alarms is not None:
            self.least = least_score(self.trust(self.calibration), self.false_alarms)

    @torch.no_grad()
    def trust(self, questions: Sequence[str]) -> numpy.ndarray:
        """Cosine of the state before each question's first answer token and the nearest in the datastore, f64 [Q]."""
        states = self._states([encode_question(self.tokenizer, question, "?") for question in questions])
        nearest = [self._likeness(each[:1]).max() for each in states] if len(self.keys) else [-1.0] * len(states)
        return numpy.array([float(value) for value in nearest])

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Greedy answers by the mixed distribution, `ABSTAINS` below the least trust."""
        trust = self.trust(questions) if self.false_alarms is not None else numpy.zeros(len(questions))
        sure = [index for index in range(len(questions)) if trust[index] >= self.least]
        answers = [ABSTAINS] * len(questions)
        hook = self.model.get_output_embeddings().register_forward_hook(self._mix)
        try:
            given = greedy_answers(self.model, self.tokenizer, [questions[index] for index in sure], LONGEST)
        finally:
            hook.remove()
        for index, text in zip(sure, given, strict=True):
            answers[index] = spoken(text)
        return answers

    def add(self, fact: Fact) -> None:
        """Store the rows of one fact more."""
        self.insert(fact)
        self._store([fact])

    def update(self, fact: Fact) -> None:
        """Store the fact's rows in the place of its old ones."""
        self.exchange(fact)
        self._drop(fact.id)
        self._store([fact])

    def delete(self, identity: str) -> None:
        """Drop the fact's rows."""
        self.remove(identity)
        self._drop(identity)

    def bytes(self) -> int:
        """Of the datastore: states in f16, tokens in i64."""
        return self.keys.nbytes + self.tokens.nbytes

    def _empty(self) -> None:
        self.keys = torch.zeros(0, self.model.config.hidden_size, dtype=torch.float16)
        self.tokens = torch.zeros(0, dtype=torch.int64)
        self.owners: list[str] = []

    @torch.no_grad()
    def _store(self, facts: Sequence[Fact]) -> None:
        rows = [(fact, text) for fact in facts for text in fact.wordings(self.wordings)]
        encoded = [encode_question(self.tokenizer, text, fact.answer) for fact, text in rows]
        tokens = [token for row in encoded for token in row.ids[len(row.ids) - row.answer_tokens :]]
        self.keys = torch.cat([self.keys, *(states.half() for states in self._states(encoded))])
        self.tokens = torch.cat([self.tokens, torch.tensor(tokens)])
        self.owners += [fact.id for (fact, _), row in zip(rows, encoded, strict=True) for _ in range(row.answer_tokens)]

    def _drop(self, identity: str) -> None:
        kept = torch.tensor([owner != identity for owner in self.owners])
        self.keys, self.tokens = self.keys[kept], self.tokens[kept]
        self.owners = [owner for owner in self.owners if owner != identity]

    def _states(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """The last hidden state before each answer token of each row, [answer tokens, D] of length 1."""
        seen: list[Tensor] = []
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
        found: list[Tensor] = []
        try:
            for start in range(0, len(rows), BATCH_ROWS):
                part = rows[start : start + BATCH_ROWS]
                answer_losses(self.model, collate(part, self.tokenizer.pad_token_id, self.model.device))
                states = functional.normalize(seen.pop()[:, :-1], dim=2)
                found += [states[place, states.shape[1] - row.answer_tokens :] for place, row in enumerate(part)]
        finally:
            hook.remove()
        return found

    def _likeness(self, states: Tensor) -> Tensor:
        """Cosines [Q, M] f32 of `states` [Q, D] with the datastore."""
        with torch.autocast(states.device.type, enabled=False):  # generation multiplies in bf16
            return states @ self.keys.float().T

    def _mix(self, _: Any, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """Logits [B, T, V] of the last position become log(weight p_kNN + (1 - weight) p_LM)."""
        if not len(self.keys):
            return logits
        likeness = self._likeness(functional.normalize(inputs[0][:, -1].float().cpu(), dim=1))
        nearest = likeness.topk(min(self.settings.neighbours, len(self.keys)), dim=1)
        shares = (nearest.values / self.settings.temperature).softmax(dim=1)
        stored = torch.zeros(len(likeness), logits.shape[-1]).scatter_add_(1, self.tokens[nearest.indices], shares)
        plain = logits[:, -1].float().softmax(dim=1)
        mixed = self.settings.weight * stored.to(plain.device) + (1 - self.settings.weight) * plain
        return torch.cat([logits[:, :-1], mixed.clamp_min(1e-30).log()[:, None].to(logits.dtype)], dim=1)
