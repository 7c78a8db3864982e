"""What notebook 10 uses of the package: each name, from the module that defines it."""

from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import general_facts, select_facts, tuning_pool, with_answers
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.sec5_threshold.experiment import METHODS, WatchSettings, watch_tuning, watch_untouched
from mome.replication.paper.sec5_threshold.figure import threshold
from mome.replication.paper.sec5_threshold.metrics import moments, overlap, violations
from mome.replication.paper.sec5_threshold.simple_network import (
    SimpleNetwork,
    contexts_of,
    draw_answers,
    train_simple_network,
)
from mome.replication.paper.sec5_threshold.theory import (
    LN2,
    circle_mean_loss,
    collision_mean_loss,
    decided_by,
    extreme_log_probabilities,
    hopeless_mean_loss,
    most_wrong_facts,
    recall_probability,
    safe_mean_loss,
    sampled_wrong_bounds,
    shift_of_mean,
    tokens_to_notice,
)
from mome.train.settings import TuningSettings

__all__ = [
    "LN2",
    "METHODS",
    "Recipe",
    "Session",
    "SimpleNetwork",
    "TuningSettings",
    "WatchSettings",
    "asked_backbone",
    "check",
    "circle_mean_loss",
    "collision_mean_loss",
    "contexts_of",
    "decided_by",
    "draw_answers",
    "extreme_log_probabilities",
    "general_facts",
    "hopeless_mean_loss",
    "metric",
    "moments",
    "most_wrong_facts",
    "overlap",
    "own_claims",
    "recall_probability",
    "report",
    "safe_mean_loss",
    "sampled_wrong_bounds",
    "select_facts",
    "shift_of_mean",
    "threshold",
    "tokens_to_notice",
    "train_simple_network",
    "tuning_pool",
    "violations",
    "watch_tuning",
    "watch_untouched",
    "with_answers",
]
