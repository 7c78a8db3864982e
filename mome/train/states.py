"""The states that enter the first adapted layer, computed once for a group of facts: nothing below it changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from mome.adapter.model import MomeModel
from mome.lm.decoder import states_before
from mome.lm.encoding import Batch, Encoded, collate
from mome.lm.losses import multiply_bf16
from mome.train.settings import MemorySettings

CACHED_ROWS = 64  # rows whose states are computed at a time


class FactStates:
    """Training batches of encoded rows and their cached states, with noise and dropout as the settings say."""

    def __init__(self, mome: MomeModel, encoded: Sequence[Encoded], padding: int, settings: MemorySettings) -> None:
        self.mome, self.encoded, self.padding, self.settings = mome, encoded, padding, settings
        self.states: dict[int, Tensor] = {}

    def collate(self, rows: Sequence[int]) -> Batch:
        """The rows as a batch."""
        return collate([self.encoded[row] for row in rows], self.padding, self.mome.model.device)

    @torch.no_grad()
    def load(self, rows: Sequence[int]) -> None:
        """Replace the cached states by those of `rows`; equal rows give equal bits, whatever was cached before."""
        self.states = {}
        for part in by_length(rows, self.encoded):
            batch = self.collate(part)
            with self.mome.using(None), multiply_bf16(batch.ids.device):
                layer = self.mome.first_layer
                states = states_before(self.mome.model, layer, batch.ids, batch.mask, batch.positions)
            for place, row in enumerate(part):
                self.states[row] = states[place, -len(self.encoded[row].ids) :].cpu()

    def draw(self, rows: Sequence[int], generator: numpy.random.Generator) -> tuple[Batch, Tensor, Tensor]:
        """A batch of loaded rows, the states [B, T, D] entering the first adapted layer, the tokens attended to."""
        batch, example = self.collate(rows), self.states[rows[0]]
        states = torch.zeros(*batch.ids.shape, example.shape[1], dtype=example.dtype)  # [B, T, D], 0 on padding
        for place, row in enumerate(rows):
            states[place, -len(self.states[row]) :] = self.states[row]
        if self.settings.state_noise:
            size = states.square().mean(dim=2, keepdim=True).sqrt() * self.settings.state_noise  # [B, T, 1]
            noise = generator.standard_normal(states.shape, dtype=numpy.float32)
            states = states + size * torch.from_numpy(noise).to(states.dtype)
        return batch, states.to(batch.ids.device), self._attended(batch, generator)

    def _attended(self, batch: Batch, generator: numpy.random.Generator) -> Tensor:
        """The batch's mask without a random part of the tokens that are routed; the token before the answer stays."""
        if not self.settings.prompt_dropout:
            return batch.mask
        before = batch.ids.shape[1] - 1 - batch.answer_mask.sum(dim=1, keepdim=True)  # [B, 1], column before the answer
        last = torch.arange(batch.ids.shape[1], device=before.device) == before  # [B, T]
        shares = generator.uniform(0, self.settings.prompt_dropout, (len(batch.ids), 1))  # [B, 1], of tokens to hide
        hidden = torch.from_numpy(generator.uniform(size=batch.ids.shape) < shares).to(batch.prompt.device)
        return batch.mask.masked_fill(hidden & batch.prompt & ~last, 0)


def by_length(rows: Sequence[int], encoded: Sequence[Encoded]) -> list[list[int]]:
    """The rows in batches of similar length."""
    order = sorted(rows, key=lambda row: len(encoded[row].ids))
    return [order[start : start + CACHED_ROWS] for start in range(0, len(order), CACHED_ROWS)]
