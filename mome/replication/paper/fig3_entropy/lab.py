"""What notebook 04 uses of the package: each name, from the module that defines it."""

from mome.lm.losses import fact_losses
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.pools import select_facts, tuning_pool
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import Metric, metric
from mome.replication.notebook.session import Session
from mome.replication.paper.fig3_entropy.experiment import Watched, blank, draw_likeness, entropy, observe, panel
from mome.replication.paper.fig3_entropy.figure import browse, next_tokens
from mome.replication.paper.fig3_entropy.metrics import likeness_table, parts_that_hold
from mome.train.settings import LoraSettings, TuningSettings

__all__ = [
    "LoraSettings",
    "Metric",
    "Session",
    "TuningSettings",
    "Watched",
    "asked_backbone",
    "blank",
    "browse",
    "check",
    "draw_likeness",
    "entropy",
    "fact_losses",
    "likeness_table",
    "memorize",
    "metric",
    "next_tokens",
    "observe",
    "own_claims",
    "panel",
    "parts_that_hold",
    "report",
    "select_facts",
    "tuning_pool",
]
