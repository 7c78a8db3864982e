"""What notebook 05 uses of the package: each name, from the module that defines it."""

from mome.adapter.config import MomeConfig
from mome.adapter.model import mome_model
from mome.adapter.queries import question_queries
from mome.facts.fact import split
from mome.lm.decoder import states_before
from mome.lm.generation import exact
from mome.lm.prompts.form import QUESTION_ANSWER
from mome.replication.experiments.pools import general_facts, select_facts, tuning_pool, with_answers
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.fig4_architecture.experiment import read_architecture
from mome.replication.paper.fig4_architecture.figure import Outcome, Walk, architecture, shape
from mome.replication.paper.fig4_architecture.way import question_box, way
from mome.train.experts import memorize_facts
from mome.train.router import train_router
from mome.train.settings import MemorySettings, RouterSettings

__all__ = [
    "QUESTION_ANSWER",
    "MemorySettings",
    "MomeConfig",
    "Outcome",
    "RouterSettings",
    "Session",
    "Walk",
    "architecture",
    "asked_backbone",
    "check",
    "exact",
    "general_facts",
    "memorize_facts",
    "metric",
    "mome_model",
    "own_claims",
    "question_box",
    "question_queries",
    "read_architecture",
    "report",
    "select_facts",
    "shape",
    "split",
    "states_before",
    "train_router",
    "tuning_pool",
    "way",
    "with_answers",
]
