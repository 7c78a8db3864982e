"""What notebook 06 uses of the package: each name, from the module that defines it."""

from mome.adapter.model import mome_model
from mome.adapter.queries import question_queries, question_states
from mome.lm.losses import text_loss
from mome.replication.experiments.abilities import curve_table, memory_abilities
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import general_facts, known_facts, select_facts, tuning_pool, with_answers
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.fig5_mome_convergence.bars import bar_table, who_keeps
from mome.replication.paper.fig5_mome_convergence.experiment import ablations, expert_overlap, measured_rows
from mome.replication.paper.fig5_mome_convergence.figure import convergence, real_convergence
from mome.replication.paper.fig5_mome_convergence.lora_wordings import lora_abilities
from mome.replication.paper.fig5_mome_convergence.real_tables import method_table, real_model
from mome.train.settings import LoraSettings, TuningSettings

__all__ = [
    "LoraSettings",
    "Recipe",
    "Session",
    "TuningSettings",
    "ablations",
    "asked_backbone",
    "bar_table",
    "check",
    "convergence",
    "curve_table",
    "expert_overlap",
    "general_facts",
    "known_facts",
    "lora_abilities",
    "measured_rows",
    "memorize",
    "memorize_mome",
    "memory_abilities",
    "method_table",
    "metric",
    "mome_model",
    "own_claims",
    "question_queries",
    "question_states",
    "real_convergence",
    "real_model",
    "report",
    "select_facts",
    "text_loss",
    "tuning_pool",
    "who_keeps",
    "with_answers",
]
