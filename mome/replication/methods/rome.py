"""ROME (Meng et al. 2022, arXiv 2202.05262, section 3.1): one fact, one rank-one change of one MLP's down projection.

The MLP is read as a memory W k = v: the key k is the input of its down projection at the last token of the subject, the
value v its output. An edit finds the value with which the model gives the new answer, and stores it under the fact's
key: W' = W + L (C^-1 k)^T with L = (v - W k) / ((C^-1 k)^T k). Of all W' with W' k = v it changes general keys least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mome.facts.fact import Fact
from mome.files.records import Amount, Count, Positive, Settings
from mome.lm.decoder import decoder_layers, states_before, without_layers
from mome.lm.encoding import Batch, Encoded, collate, encode, encode_question
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.lm.losses import BATCH_ROWS, multiply_bf16, token_losses
from mome.lm.prompts.form import prompt_form

ESSENCE = "{subject} is a"  # the paper's prompt of what the subject is, whose continuation is to stay
LONGEST = 40


class RomeSettings(Settings):
    """How a value is found (names as in the paper's section 3.1 and its code).

    `layer` is the edited one (None: a quarter up). The key is a mean over the plain prompt and `prefixes` random ones
    before it, of up to `prefix_tokens` tokens. The value takes at most `steps` of Adam, fewer once its loss
    (nats/token) is under `stop_loss`; it is kept within `clamp` times the norm of the old one. `essence` weighs the
    divergence of the subject's essence, `decay` the distance from the old value; both are those of the published code
    for GPT-2 XL. The rest is ours, chosen on seed 100 for tiny-llama: LOG.md has the trials.
    """

    layer: Amount | None = None
    prefixes: Amount = 1
    prefix_tokens: Count = 8
    steps: Count = 20
    learning_rate: Positive = 15.0
    stop_loss: Positive = 0.05
    clamp: Positive = 6.0
    essence: Positive = 0.0625
    decay: Positive = 0.5
    seed: Amount = 0


def rank_one(weight: Tensor, key: Tensor, value: Tensor, covariance: Tensor) -> Tensor:
    """The change [d_out, d_in] f64 of `weight` [d_out, d_in] after which `key` [d_in] gives `value` [d_out].

    Of all changes D with (W + D) k = v it has the least tr(D C D^T), the mean square of what it adds to general keys,
    whose uncentred `covariance` C is [d_in, d_in] (paper, equation 2).

    Raises:
        ValueError: the covariance is not positive definite: it was taken of too few keys.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance.double())
    if failed.item():
        raise ValueError(f"the covariance of {len(covariance)} key dimensions is singular: take it of more text")
    direction = torch.cholesky_solve(key.double()[:, None], factor)[:, 0]
    missing = value.double() - weight.double() @ key.double()
    return torch.outer(missing / (direction @ key.double()), direction)


@dataclass(frozen=True, slots=True)
class RomeEdit:
    """What one edit did: its `key` [d_in] and `value` [d_out] f32, `losses` (nats/token) of each step before it."""

    key: Tensor
    value: Tensor
    losses: list[float]


class Rome:
    """A backbone whose facts are edited one after another, each on the weights that the edits before it left.

    `text` is general text, as facts, of which the covariance of keys is taken once, before any edit.

    Raises:
        ValueError: the settings' layer is not there, the text is too short for the covariance, or the backbone is asked
            by a chat template, in which the subject's tokens are not found.
    """

    def __init__(self, backbone: Backbone, settings: RomeSettings, text: Sequence[Fact]) -> None:
        layers: Any = decoder_layers(backbone.model)
        self.layer = len(layers) // 4 if settings.layer is None else settings.layer
        if self.layer >= len(layers):
            raise ValueError(f"layer {self.layer}: the model has only layers 0 to {len(layers) - 1}")
        if prompt_form(backbone.tokenizer).template:
            raise ValueError(f"backbone {backbone.name!r}: ROME finds no subject in a chat template; load it as 'qa'")
        self.model, self.tokenizer, self.settings = backbone.model, backbone.tokenizer, settings
        self.projection = layers[self.layer].mlp.down_proj
        self.prefixes = self._sample_prefixes()
        self.covariance = self._covariance(text)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The edited model's free greedy answers."""
        return greedy_answers(self.model, self.tokenizer, questions, LONGEST)

    def edit(self, fact: Fact, subject: str) -> RomeEdit:
        """Make the model answer the fact's question by its answer.

        Raises:
            ValueError: the subject does not occur in the question.
            FloatingPointError: the loss became NaN or infinite.
        """
        rows, places = self._rows(fact, subject)
        key = self._keys(rows, places)[:-1].mean(dim=0)  # without the essence
        value, losses = self._value(rows, places, key)
        change = rank_one(self.projection.weight, key, value, self.covariance)
        with torch.no_grad():
            self.projection.weight.copy_(self.projection.weight.double() + change)
        return RomeEdit(key, value, losses)

    def _rows(self, fact: Fact, subject: str) -> tuple[list[Encoded], list[int]]:
        """The prompt and answer after each prefix, last the essence; and where the subject ends, from the end."""
        plain = encode_question(self.tokenizer, fact.question, fact.answer)
        form = prompt_form(self.tokenizer)
        asked = form.before + fact.question + form.after
        after = len(plain.ids) - self._subject_end(asked, subject)
        first = len(self.tokenizer("")["input_ids"])  # special tokens stay in front of a prefix
        rows = [
            Encoded(plain.ids[:first] + prefix + plain.ids[first:], plain.answer_tokens, None)
            for prefix in ((), *self.prefixes)
        ]
        essence = ESSENCE.format(subject=subject)
        ids = tuple(self.tokenizer(essence)["input_ids"])
        return [*rows, Encoded(ids, 1)], [after] * len(rows) + [len(ids) - self._subject_end(essence, subject)]

    def _subject_end(self, text: str, subject: str) -> int:
        """The number of the token with the subject's last letter."""
        start = text.find(subject)
        if start < 0:
            raise ValueError(f"the subject {subject!r} does not occur in {text!r}")
        last = start + len(subject) - 1
        offsets = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return next(place for place, (begin, end) in enumerate(offsets) if begin <= last < end)

    @torch.no_grad()
    def _keys(self, rows: Sequence[Encoded], places: Sequence[int]) -> Tensor:
        """Keys [rows, d_in] f32 at `places`, counted from the end."""
        batch = collate(rows, self.tokenizer.pad_token_id, self.model.device)
        with self._watching() as found:
            token_losses(self.model, batch, 1)
        return found[0][range(len(rows)), [-place for place in places]].float()

    def _value(self, rows: Sequence[Encoded], places: Sequence[int], key: Tensor) -> tuple[Tensor, list[float]]:
        """The value z of the paper's equation 4, put in the place of what leaves the projection at `places`."""
        batch = collate(rows, self.tokenizer.pad_token_id, self.model.device)
        # nothing below the edited layer changes, so it is run once
        with multiply_bf16(self.model.device):
            states = states_before(self.model, self.layer, batch.ids, batch.mask, batch.positions)
        old = self.projection.weight.detach().float() @ key
        value = old.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([value], lr=self.settings.learning_rate)
        before, losses = self._continuation(batch, states), []
        for _ in range(self.settings.steps):
            with self._replacing(value, places):
                answer, essence = self._losses(batch, states, before)
            losses.append(answer.item())
            if not torch.isfinite(answer):
                raise FloatingPointError(f"the loss became {losses[-1]}: lower the learning rate")
            if answer < self.settings.stop_loss:
                break
            distance = (value - old).norm() / old.norm() ** 2
            loss = answer + self.settings.essence * essence + self.settings.decay * distance
            (value.grad,) = torch.autograd.grad(loss, [value])
            optimizer.step()
            self._clamp(value, old)
        return value.detach(), losses

    def _losses(self, batch: Batch, states: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (nats/token) of the answers over the prefixes, and KL (nats) of the essence's continuation."""
        logits = self._logits(batch, states, batch.answer_tokens + 1)
        mask = batch.answer_mask[:-1]
        targets = batch.ids[:-1, -batch.answer_tokens :]
        losses = functional.cross_entropy(logits[:-1, :-1].transpose(1, 2), targets, reduction="none") * mask
        after = logits[-1, -1].log_softmax(dim=0)
        divergence = functional.kl_div(before, after, reduction="sum", log_target=True)
        return (losses.sum(dim=1) / mask.sum(dim=1)).mean(), divergence

    @torch.no_grad()
    def _continuation(self, batch: Batch, states: Tensor) -> Tensor:
        return self._logits(batch, states, 1)[-1, -1].log_softmax(dim=0)

    def _logits(self, batch: Batch, states: Tensor, columns: int) -> Tensor:
        """Logits [rows, columns, vocabulary] f32 of the last columns, from the `states` that enter the edited layer."""
        upper = without_layers(self.model, 0, self.layer)
        with multiply_bf16(batch.ids.device):
            found = upper(
                inputs_embeds=states,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                use_cache=False,
                logits_to_keep=columns,
            ).logits
        return found.float()

    @torch.no_grad()
    def _clamp(self, value: Tensor, old: Tensor) -> None:
        distance, most = (value - old).norm(), self.settings.clamp * old.norm()
        if distance > most:
            value.copy_(old + (value - old) * most / distance)

    @contextmanager
    def _watching(self) -> Iterator[list[Tensor]]:
        """Collect what enters the projection, [B, T, d_in] for each forward pass."""
        found: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found.append(inputs[0])

        handle = self.projection.register_forward_pre_hook(keep)
        try:
            yield found
        finally:
            handle.remove()

    @contextmanager
    def _replacing(self, value: Tensor, places: Sequence[int]) -> Iterator[None]:
        """Put `value` in the place of what leaves the projection at each row's place from the end."""

        def put(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            chosen = torch.zeros(output.shape[:2], dtype=torch.bool, device=output.device)
            chosen[range(len(places)), [-place for place in places]] = True
            return torch.where(chosen[..., None], value.to(output.dtype), output)

        handle = self.projection.register_forward_hook(put)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def _covariance(self, text: Sequence[Fact]) -> Tensor:
        """The uncentred covariance E[k k^T] [d_in, d_in] f64 of the keys at every token of `text`."""
        rows = [encode_question(self.tokenizer, fact.question, fact.answer) for fact in text]
        rows.sort(key=lambda row: len(row.ids))
        size = self.projection.in_features
        total, count = torch.zeros(size, size, dtype=torch.float64, device=self.model.device), 0
        for start in range(0, len(rows), BATCH_ROWS):
            batch = collate(rows[start : start + BATCH_ROWS], self.tokenizer.pad_token_id, self.model.device)
            with self._watching() as found:
                token_losses(self.model, batch, 1)
            keys = found[0][batch.mask.bool()].double()
            total, count = total + keys.T @ keys, count + len(keys)
        if count < size:
            raise ValueError(f"{count} tokens of text: the covariance of {size} key dimensions needs as many or more")
        return total / count

    @torch.no_grad()
    def _sample_prefixes(self) -> list[tuple[int, ...]]:
        """Texts that the model itself says at temperature 1, as token ids; always the same ones for a seed."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        start = encode(self.tokenizer, "", "").ids[: len(self.tokenizer("")["input_ids"])]
        if not start:  # the model still needs a token to begin after, which is no part of a prefix
            first = self.tokenizer.bos_token_id
            start = (int(self.tokenizer.eos_token_id if first is None else first),)
        found = []
        for number in range(self.settings.prefixes):
            ids = list(start)
            for _ in range(1 + (number + 1) * (self.settings.prefix_tokens - 1) // self.settings.prefixes):
                tokens = torch.tensor([ids], device=self.model.device)
                logits = self.model(input_ids=tokens, use_cache=False).logits[0, -1].float().cpu()
                logits[self.tokenizer.all_special_ids] = -torch.inf
                ids.append(int(torch.multinomial(logits.softmax(dim=0), 1, generator=generator)))
            found.append(tuple(ids[len(start) :]))
        return found
