"""What notebook 01 uses of the package: each name, from the module that defines it."""

from mome.lm.encoding import collate, encode_question
from mome.lm.losses import answer_losses, fact_losses
from mome.replication.experiments.abilities import curve_difference, curve_table, recall
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.pools import select_facts, tuning_pool, with_answers
from mome.replication.experiments.real_model.memorizing import TEXTS
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric, shared_table
from mome.replication.notebook.session import Session
from mome.replication.paper.fig1_random_vs_real.figure import loss_curves, paper_curves
from mome.replication.paper.fig1_random_vs_real.metrics import kept_metrics
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import adafactor, tune

__all__ = [
    "TEXTS",
    "LoraSettings",
    "Session",
    "TuningSettings",
    "adafactor",
    "answer_losses",
    "asked_backbone",
    "attach_lora",
    "check",
    "collate",
    "curve_difference",
    "curve_table",
    "encode_question",
    "fact_losses",
    "kept_metrics",
    "loss_curves",
    "memorize",
    "metric",
    "own_claims",
    "paper_curves",
    "recall",
    "report",
    "select_facts",
    "shared_table",
    "tune",
    "tuning_pool",
    "with_answers",
]
