"""What notebook 07 uses of the package: each name, from the module that defines it."""

from mome.replication.experiments.plan import Recipe
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import Metric, metric
from mome.replication.notebook.session import Session
from mome.replication.paper.fig6_memory_tuning.experiment import (
    MODELS,
    MOMENTS,
    TEXTS,
    MemoryTuningPlan,
    draw_texts,
    measure_models,
    tune_mixed,
)
from mome.replication.paper.fig6_memory_tuning.figure import memory_tuning
from mome.replication.paper.fig6_memory_tuning.metrics import (
    NEAR_ZERO,
    TOLERANCE,
    excess_intervals,
    excesses,
    qualities,
)
from mome.train.settings import TuningSettings

__all__ = [
    "MODELS",
    "MOMENTS",
    "NEAR_ZERO",
    "TEXTS",
    "TOLERANCE",
    "MemoryTuningPlan",
    "Metric",
    "Recipe",
    "Session",
    "TuningSettings",
    "asked_backbone",
    "check",
    "draw_texts",
    "excess_intervals",
    "excesses",
    "measure_models",
    "memory_tuning",
    "metric",
    "own_claims",
    "qualities",
    "report",
    "tune_mixed",
]
