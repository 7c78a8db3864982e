"""What notebook 16 uses of the package: each name, from the module that defines it."""

from mome.adapter.model import mome_model
from mome.facts.shipped import shipped_facts
from mome.facts.strict import FactError
from mome.files.environment import work_folder
from mome.replication.experiments.pools import facts_known_to, judge_of
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.methods.rome import Rome, rank_one
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import Metric
from mome.replication.notebook.session import Session
from mome.replication.paper.sec10_editing.contenders import LORA, MOME, EditingPlan, contender
from mome.replication.paper.sec10_editing.experiment import edit_rows
from mome.replication.paper.sec10_editing.figure import editing
from mome.replication.paper.sec10_editing.history import history_box
from mome.replication.paper.sec10_editing.metrics import edit_metrics
from mome.replication.paper.sec10_editing.public_edits import read_edits
from mome.replication.paper.sec10_editing.stream import draw_stream

__all__ = [
    "LORA",
    "MOME",
    "EditingPlan",
    "FactError",
    "Metric",
    "Rome",
    "Session",
    "asked_backbone",
    "check",
    "contender",
    "draw_stream",
    "edit_metrics",
    "edit_rows",
    "editing",
    "facts_known_to",
    "history_box",
    "judge_of",
    "mome_model",
    "own_claims",
    "rank_one",
    "read_edits",
    "report",
    "shipped_facts",
    "work_folder",
]
