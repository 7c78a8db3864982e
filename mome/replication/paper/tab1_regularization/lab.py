"""What notebook 02 uses of the package: each name, from the module that defines it."""

from mome.facts.shipped import shipped_facts
from mome.lm.generation import greedy_answers, hallucinated
from mome.lm.quiz import make_quiz
from mome.replication.experiments.abilities import general_abilities, recall
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.pools import general_facts, known_facts, select_facts, tuning_pool, with_answers
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric, shared_table
from mome.replication.notebook.session import Session
from mome.replication.paper.tab1_regularization.experiment import answer_table, sweep_table, variations
from mome.replication.paper.tab1_regularization.figure import damage_chart, regularization
from mome.replication.paper.tab1_regularization.metrics import damage_metrics, state_rows
from mome.train.settings import LoraSettings, TuningSettings

__all__ = [
    "LoraSettings",
    "Session",
    "TuningSettings",
    "answer_table",
    "asked_backbone",
    "check",
    "damage_chart",
    "damage_metrics",
    "general_abilities",
    "general_facts",
    "greedy_answers",
    "hallucinated",
    "known_facts",
    "make_quiz",
    "memorize",
    "metric",
    "own_claims",
    "recall",
    "regularization",
    "report",
    "select_facts",
    "shared_table",
    "shipped_facts",
    "state_rows",
    "sweep_table",
    "tuning_pool",
    "variations",
    "with_answers",
]
