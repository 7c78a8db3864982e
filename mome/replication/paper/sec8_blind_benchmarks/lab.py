"""What notebook 17 uses of the package: each name, from the module that defines it."""

from mome.replication.experiments.pools import general_facts, known_facts
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import shared_table
from mome.replication.notebook.session import Session
from mome.replication.paper.sec8_blind_benchmarks.detectors import (
    DIRECTIONS,
    KNOWN,
    LEAK,
    RUINED,
    auc,
    measured,
    points,
)
from mome.replication.paper.sec8_blind_benchmarks.experiment import live_checkpoints
from mome.replication.paper.sec8_blind_benchmarks.figure import TITLES, blindness
from mome.replication.paper.sec8_blind_benchmarks.metrics import blind_metrics, course, whole_damage, whole_runs
from mome.train.settings import LoraSettings, TuningSettings

__all__ = [
    "DIRECTIONS",
    "KNOWN",
    "LEAK",
    "RUINED",
    "TITLES",
    "LoraSettings",
    "Session",
    "TuningSettings",
    "asked_backbone",
    "auc",
    "blind_metrics",
    "blindness",
    "check",
    "course",
    "general_facts",
    "known_facts",
    "live_checkpoints",
    "measured",
    "own_claims",
    "points",
    "report",
    "shared_table",
    "whole_damage",
    "whole_runs",
]
