"""What notebook 03 uses of the package: each name, from the module that defines it."""

from mome.facts.shipped import shipped_facts
from mome.lm.generation import exact
from mome.lm.losses import fact_losses
from mome.replication.experiments.abilities import recall
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.pools import select_facts, tuning_pool
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import Metric, metric
from mome.replication.notebook.session import Session
from mome.replication.paper.fig2_pretraining_loss.experiment import (
    FORMS,
    LAWS,
    effective_tokens,
    epochs_to_recall,
    fit_curves,
    fit_recall,
    pretraining_curve,
    recall_interval,
    recall_points,
    share_interval,
)
from mome.replication.paper.fig2_pretraining_loss.figure import pretraining_loss
from mome.train.settings import LoraSettings, TuningSettings

__all__ = [
    "FORMS",
    "LAWS",
    "LoraSettings",
    "Metric",
    "Session",
    "TuningSettings",
    "asked_backbone",
    "check",
    "effective_tokens",
    "epochs_to_recall",
    "exact",
    "fact_losses",
    "fit_curves",
    "fit_recall",
    "memorize",
    "metric",
    "own_claims",
    "pretraining_curve",
    "pretraining_loss",
    "recall",
    "recall_interval",
    "recall_points",
    "report",
    "select_facts",
    "share_interval",
    "shipped_facts",
    "tuning_pool",
]
