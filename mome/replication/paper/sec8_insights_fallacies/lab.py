"""What notebook 13 uses of the package: each name, from the module that defines it."""

from mome.facts.fact import Fact
from mome.replication.experiments.capacity import LITERATURE
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import general_facts
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import Metric, metric
from mome.replication.notebook.session import Session
from mome.replication.notebook.style import seed_count
from mome.replication.paper.sec8_insights_fallacies.experiment import (
    BITS_OF_A_DIGIT,
    TEST,
    capacity_points,
    covered_share,
    measure_model,
    numbered_facts,
    random_split_table,
    row_splits,
    trained_parameters,
    with_demand,
)
from mome.replication.paper.sec8_insights_fallacies.figure import MODELS, Subject, insights
from mome.replication.paper.sec8_insights_fallacies.kept_scores import kept_scores, paired
from mome.replication.paper.sec8_insights_fallacies.statistics import error_bound, paired_difference
from mome.train.settings import AUGMENTED, LoraSettings, TuningSettings

__all__ = [
    "AUGMENTED",
    "BITS_OF_A_DIGIT",
    "LITERATURE",
    "MODELS",
    "TEST",
    "Fact",
    "LoraSettings",
    "Metric",
    "Recipe",
    "Session",
    "Subject",
    "TuningSettings",
    "asked_backbone",
    "capacity_points",
    "check",
    "covered_share",
    "error_bound",
    "general_facts",
    "insights",
    "kept_scores",
    "measure_model",
    "memorize",
    "memorize_mome",
    "metric",
    "numbered_facts",
    "own_claims",
    "paired",
    "paired_difference",
    "random_split_table",
    "report",
    "row_splits",
    "seed_count",
    "trained_parameters",
    "with_demand",
]
