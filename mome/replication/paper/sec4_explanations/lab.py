"""What notebook 14 uses of the package: each name, from the module that defines it."""

from mome.facts.fact import split
from mome.facts.readers import check_facts
from mome.facts.shipped import shipped_facts
from mome.facts.strict import FactError
from mome.replication.experiments.pools import general_facts
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.sec4_explanations.answers import measure_answers
from mome.replication.paper.sec4_explanations.conditions import conditions, dated, loss_floor, odd_prompts, rivals
from mome.replication.paper.sec4_explanations.experiment import ExplanationsPlan, explanation_rows
from mome.replication.paper.sec4_explanations.figure import explanations
from mome.replication.paper.sec4_explanations.metrics import (
    cause_table,
    explanation_metrics,
    rates,
    share_wrong,
    sufficient_families,
)

__all__ = [
    "ExplanationsPlan",
    "FactError",
    "Session",
    "asked_backbone",
    "cause_table",
    "check",
    "check_facts",
    "conditions",
    "dated",
    "explanation_metrics",
    "explanation_rows",
    "explanations",
    "general_facts",
    "loss_floor",
    "measure_answers",
    "metric",
    "odd_prompts",
    "own_claims",
    "rates",
    "report",
    "rivals",
    "share_wrong",
    "shipped_facts",
    "split",
    "sufficient_families",
]
