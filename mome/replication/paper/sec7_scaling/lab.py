"""What notebook 11 uses of the package: each name, from the module that defines it."""

from mome.adapter.bank import Bank
from mome.replication.bench.steps import time_steps
from mome.replication.bench.tables import medians
from mome.replication.counting.work import lookup_work, token_work
from mome.replication.experiments.capacity import LITERATURE, memorize_points
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import general_facts, random_facts
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.session import Session
from mome.replication.paper.sec7_scaling.experiment import time_lookups
from mome.replication.paper.sec7_scaling.figure import scaling
from mome.replication.paper.sec7_scaling.footprint import IN_MEMORY, MAPPED, memory_table, optimizer_bytes
from mome.replication.paper.sec7_scaling.metrics import (
    capacity_metrics,
    lookup_metrics,
    memory_metrics,
    point_metrics,
    step_metrics,
    with_ratios,
    work_metrics,
)

__all__ = [
    "IN_MEMORY",
    "LITERATURE",
    "MAPPED",
    "Bank",
    "Recipe",
    "Session",
    "capacity_metrics",
    "check",
    "general_facts",
    "lookup_metrics",
    "lookup_work",
    "medians",
    "memorize_points",
    "memory_metrics",
    "memory_table",
    "optimizer_bytes",
    "own_claims",
    "point_metrics",
    "random_facts",
    "report",
    "scaling",
    "step_metrics",
    "time_lookups",
    "time_steps",
    "token_work",
    "with_ratios",
    "work_metrics",
]
