"""Phase 2 over the ranks: rounds in which each trains a group of its own, and a final check that all share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mome.adapter.bank import with_fresh_optimizers
from mome.files.hashing import text_sha256
from mome.train.anchoring import Rows
from mome.train.experts import ExpertTrainer
from mome.train.fact_trainer import Watch
from mome.train.progress import Progress, grouped
from mome.train.ranks.dealing import deal
from mome.train.ranks.group import Ranks
from mome.train.ranks.rows import fetch, foreign, forget, gathered, send_home, table_names
from mome.train.settings import MemorySettings
from mome.train.states import by_length


def refuse_optimizer(settings: MemorySettings) -> None:
    """Raise ValueError unless each row's update depends on that row alone."""
    if settings.optimizer != "adam":
        raise ValueError(
            f"optimizer: {settings.optimizer} keeps statistics of all rows, which ranks do not share; take adam, or "
            "one process"
        )


class RankTrainer(ExpertTrainer):
    """Trains as `ExpertTrainer` does, a round at a time; `progress` is the same on all ranks between two rounds.

    Between rounds each rank's bank holds the rows that it owns. After `train` the bank of rank 0 holds them all.
    """

    def __init__(
        self,
        ranks: Ranks,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        rows: Rows,
        settings: MemorySettings,
    ) -> None:
        refuse_optimizer(settings)
        super().__init__(model, tokenizer, rows, settings)
        self.ranks, self.silent = ranks, ranks.rank > 0
        self.experts = [self._experts(places).tolist() for places in self.rows_of]  # by fact

    def train(self, progress: Progress, *watches: Watch) -> None:
        """As `FactTrainer.train`; `watches` are called after each round and check. Rank 0 then has all rows."""
        super().train(progress, *watches)
        members = gathered(self.ranks, self.mome.bank, optimizer=False)
        if members is not None:
            self.mome.bank.restore(with_fresh_optimizers(self.mome.bank, members))

    def generator(self, progress: Progress) -> numpy.random.Generator:
        """By the check before, the group and its epoch: what other ranks do does not change a group's draws."""
        return numpy.random.default_rng([self.settings.seed, progress.rounds, progress.group[0], progress.epoch])

    def worst_losses(self) -> numpy.ndarray:
        """As `FactLosses.worst_losses`: the batches of rows are dealt out in turn, their experts fetched."""
        batches = by_length(range(len(self.encoded)), self.encoded)
        turns = [batches[start : start + self.ranks.size] for start in range(0, len(batches), self.ranks.size)]
        own = [self._asked(turn[self.ranks.rank] if self.ranks.rank < len(turn) else []) for turn in turns]
        found = self.ranks.share("the final check", numpy.max(own, axis=0).tolist())
        return numpy.asarray(found).max(axis=0)

    def start(self, folder: Path | None, config: dict[str, Any]) -> Progress:
        """As `ExpertTrainer.start`, read and written by rank 0; its rows go to their owners."""
        self._optimizer()  # its tables are part of what rows carry
        router = {name: getattr(self.mome.router, name) for name in ("pool", "project", "mean", "whiten")}
        self.ranks.agree({
            "settings": text_sha256(json.dumps(config, sort_keys=True), 16),
            "router": _digest(router),
            "anchors": _digest(self.mome.router.anchors.tensors()),
            "rejection threshold": self.mome.router.min_score,
            "experts of the facts": _digest({"ids": self.rows.ids, "weights": self.rows.weights}),
        })  # fmt: skip
        first = super().start(folder, config).as_json() if not self.ranks.rank else None
        progress = Progress.from_json(self.ranks.share("the last checkpoint", first)[0])
        held = self.mome.bank.touched()
        if self.ranks.rank:
            forget(self.mome.bank, held)
        send_home(self.ranks, self.mome.bank, held[:0] if self.ranks.rank else held)
        return progress

    def saving(self, folder: Path, config: dict[str, Any], every_seconds: float) -> Watch:
        """As `ExpertTrainer.saving`, by rank 0 and its clock, with the rows of all ranks."""
        saved = time.perf_counter()

        def save_if_due(progress: Progress) -> None:
            nonlocal saved
            due = progress.finished or time.perf_counter() - saved > every_seconds
            if self.ranks.share("whether to save", due)[0]:
                members = gathered(self.ranks, self.mome.bank, optimizer=not progress.finished)
                if members is not None:
                    self.save(folder, config, progress, members)
                saved = time.perf_counter()

        return save_if_due

    def _turn(self, progress: Progress) -> None:
        if progress.queue:
            self._round(progress)
        else:
            self.check(progress)

    def _round(self, progress: Progress) -> None:
        """Deal the waiting facts; train this rank's among them, and tell all ranks how it went."""
        waiting = [fact for group in progress.queue for fact in group]
        groups, later = deal(waiting, self.experts, self.ranks.size, self.settings.group_size)
        progress.queue = grouped(later, self.settings.group_size)
        done = self._trained(groups[self.ranks.rank], progress.rounds)
        for group, found in zip(groups, self.ranks.share("the end of the round", done), strict=True):
            for fact, losses in zip(group, found["losses"], strict=True):
                progress.losses[fact] += losses
            progress.visits += found["visits"]
            progress.epochs_in_all += found["epochs"]
            progress.failed = sorted({*progress.failed, *found["failed"]})

    def _trained(self, group: list[int], rounds: int) -> dict[str, Any]:
        """Train a group with its rows at hand; how it went, as JSON values."""
        own = Progress([], [[] for _ in self.rows_of], [], group=group, active=list(group), rounds=rounds)
        ids = self._experts([row for fact in group for row in self.rows_of[fact]])
        fetch(self.ranks, self.mome.bank, ids, table_names(self.mome.bank))
        while own.active:
            self.epoch(own)
        send_home(self.ranks, self.mome.bank, ids)
        losses = [own.losses[fact] for fact in group]
        return {"losses": losses, "visits": own.visits, "epochs": own.epochs_in_all, "failed": own.failed}

    def _asked(self, rows: list[int]) -> numpy.ndarray:
        """The worst losses [facts] f64 of the facts of some rows, 0 for the others; their experts come and go."""
        ids = self._experts(rows)
        fetch(self.ranks, self.mome.bank, ids, table_names(self.mome.bank, optimizer=False))
        worst = self.worst_of([rows] if rows else [])
        forget(self.mome.bank, foreign(self.ranks, ids))
        return worst

    def _experts(self, rows: Sequence[int]) -> Tensor:
        """The distinct experts of some rows, int64 [n] ascending, on the CPU."""
        return torch.unique(self.rows.ids[list(rows)].cpu())


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """16 digits of the SHA-256 of the tensors' names and content."""
    plain = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
    return hashlib.sha256(safetensors.torch.save(plain)).hexdigest()[:16]
