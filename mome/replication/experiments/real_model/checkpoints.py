"""What a LoRA run damages, and when: a row for each measure of each checkpoint. `mome table checkpoints` measures it.

A run is that of `mome table memorizing` (paper, appendix A: the same seed, order and settings). At each checkpoint the
measures of `reduced` are taken, on the same items as of the untouched backbone, which is the checkpoint of epoch 0.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.replication.damage.passages import States, read_passages
from mome.replication.experiments.real_model.damaged import BEFORE, as_text, untouched
from mome.replication.experiments.real_model.memorizing import KEY as CELL_KEY
from mome.replication.experiments.real_model.memorizing import Cell, cell_facts, lora_tuning
from mome.replication.experiments.real_model.reduced import Reduced, Sizes, measured, reduced_items
from mome.replication.experiments.stages import memorize_in_stages, stage_epochs
from mome.replication.notebook.backbones import asked_backbone
from mome.train.settings import LoraSettings

KEY = [*CELL_KEY, "epoch", "measure"]
TEXTS = ("items",)
ANSWERS = ("random", "real", BEFORE)
# on development seed 90 the leak rose from 2% to 98% between epochs 6 and 10 of 50; known answers fell in the first
EPOCHS = (1, 3, 6, 8, 10, 16, 28)

Done = dict[Cell, dict[int, int]]  # of each run in a table: the measured epochs, and how many the run has


def cells(
    backbone: str, dataset: str, facts: int, answers: Sequence[str], rate: float, seeds: Sequence[int]
) -> list[Cell]:
    """The runs of each seed in turn; the answers "before" stand for the untouched backbone alone.

    Raises:
        ValueError: other answers.
    """
    unknown = [kind for kind in answers if kind not in ANSWERS]
    if unknown:
        raise ValueError(f"--answers {unknown[0]}: must be one of {', '.join(ANSWERS)}")
    kinds = [kind for kind in answers if kind != BEFORE]
    return [Cell(backbone, dataset, facts, kind, "lora", rate, seed) for seed in seeds for kind in kinds]


def table_rows(
    found: Path | None,
    backbone: str,
    wanted: Sequence[Cell],
    epochs: Sequence[int] = EPOCHS,
    sizes: Sizes | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of each checkpoint that the table `found` does not have, the untouched backbone's first.

    Columns beside those of `KEY`: epochs (of the whole run), loss (nats/token, the training loss of this epoch), value
    (mean over items), n, items (`as_text`), seconds (CPU time of the checkpoint's measures).

    Raises:
        CheckpointError: a kept stage of a run is damaged or gone.
        HubError, OSError: TruthfulQA or MMLU cannot be read, or the disk is full.
    """
    there, probe = measured_epochs(found), Probe(backbone, sizes or Sizes())
    if not there.get(untouched(backbone)):
        yield from probe.rows(untouched(backbone), asked_backbone(backbone), [])
    for cell in wanted:
        yield from _run_rows(cell, there.get(cell, {}), epochs, probe)


def _run_rows(cell: Cell, there: dict[int, int], epochs: Sequence[int], probe: Probe) -> Iterator[dict[str, Any]]:
    if there and set(stage_epochs(epochs, max(there.values()))) <= set(there):
        return
    facts, _ = cell_facts(cell)
    stages = memorize_in_stages(cell.backbone, facts, lora_tuning(cell), LoraSettings(), epochs)
    curve = stages.done.run.curve
    for epoch in sorted(set(stages.files) - set(there)):
        yield from probe.rows(cell, stages.back_to(epoch), facts, epoch, len(curve), float(curve[epoch - 1]))


def measured_epochs(path: Path | None) -> Done:
    """The checkpoints that a table has whole; one that was cut short has fewer measures than the untouched backbone."""
    if path is None or not path.exists():
        return {}
    table = pandas.read_csv(path, usecols=[*KEY, "epochs"], keep_default_na=False)
    found: Done = {}
    sizes = table.groupby([*CELL_KEY, "epoch", "epochs"], sort=False)["measure"].nunique()
    for key, count in sizes.items():
        *identity, epoch, epochs = key
        if count == sizes.max():
            found.setdefault(Cell(*identity), {})[int(epoch)] = int(epochs)
    return found


class Probe:
    """Takes the measures of a checkpoint; what they need of the untouched backbone is made once."""

    def __init__(self, backbone: str, sizes: Sizes) -> None:
        self.backbone, self.sizes = backbone, sizes

    @cached_property
    def items(self) -> Reduced:
        """What is asked."""
        return reduced_items(self.sizes)

    @cached_property
    def states(self) -> States:
        """The untouched backbone's states at each token of the passages."""
        plain = asked_backbone(self.backbone)
        return read_passages(plain.model, plain.tokenizer, self.items.passages)[1]

    def rows(
        self,
        cell: Cell,
        backbone: Backbone,
        facts: Sequence[Fact],
        epoch: int = 0,
        epochs: int = 0,
        loss: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The rows of one checkpoint."""
        theirs = self.states if epoch else None
        started = time.process_time()
        found, _ = measured(backbone, self.items, facts, theirs)
        seconds = time.process_time() - started
        place = {**asdict(cell), "epoch": epoch, "epochs": epochs, "loss": loss}
        for name, each in found.items():
            yield {
                **place,
                "measure": name,
                "value": each.mean(),
                "n": len(each),
                "items": as_text(each),
                "seconds": seconds,
            }
