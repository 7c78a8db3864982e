"""What a LoRA run was after chosen epochs: its adapter is kept on disk, to be measured when there is time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mome.facts.fact import Fact
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.files.sealed import CheckpointError
from mome.files.snapshots import load_snapshot, save_snapshot
from mome.lm.loading import Backbone
from mome.replication.experiments.lora import memorize, run_key
from mome.replication.experiments.plan import Memorized
from mome.replication.notebook.backbones import asked_backbone
from mome.train.settings import LoraSettings, TuningSettings


@dataclass(frozen=True, slots=True)
class Stages:
    """A finished run, and the file that holds its adapter after each kept epoch, the last one included."""

    done: Memorized
    files: dict[int, Path]

    def back_to(self, epoch: int) -> Backbone:
        """The tuned backbone with the adapter that it had after `epoch`; it is the same model each time.

        Raises:
            CheckpointError: the file is damaged or gone.
        """
        path = self.files[epoch]
        found = load_snapshot(path, _config(epoch))
        if found is None:
            raise CheckpointError(f"{path}: gone; delete its folder to train again")
        with torch.no_grad():
            for name, parameter in _adapter(self.done.backbone.model).items():
                parameter.copy_(found[0][name])
        return self.done.backbone


def memorize_in_stages(
    name: str, facts: Sequence[Fact], tuning: TuningSettings, lora: LoraSettings, epochs: Iterable[int]
) -> Stages:
    """The run of `mome.replication.experiments.lora.memorize`, with its adapter after each of `epochs` and at its end.

    A run that was interrupted goes on, and one that is finished is taken as it is.
    """
    wanted = sorted(set(epochs))
    folder = work_folder() / "stages" / _folder_name(name, facts, tuning, lora, wanted)

    def keep(model: Any, epoch: int) -> None:
        save_snapshot(_file(folder, epoch), _adapter(model), {"config": _config(epoch)})

    def keep_wanted(model: Any, epoch: int) -> None:
        if epoch in wanted:
            keep(model, epoch)

    done = memorize(name, facts, tuning, lora, folder / "run.safetensors", keep_wanted)
    last = len(done.run.curve)
    keep(done.backbone.model, last)
    return Stages(done, {epoch: _file(folder, epoch) for epoch in stage_epochs(wanted, last)})


def stage_epochs(wanted: Iterable[int], last: int) -> list[int]:
    """The epochs at which a run of `last` epochs is kept: those wanted that it has, and the last."""
    return sorted({*(epoch for epoch in wanted if epoch < last), last})


def _folder_name(
    name: str, facts: Sequence[Fact], tuning: TuningSettings, lora: LoraSettings, wanted: Sequence[int]
) -> str:
    return f"{run_key(asked_backbone(name), facts, tuning, lora)}-{text_sha256(str(wanted), 8)}"


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.safetensors"


def _config(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch}


def _adapter(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
