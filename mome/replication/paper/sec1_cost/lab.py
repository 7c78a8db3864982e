"""What notebook 08 uses of the package: each name, from the module that defines it."""

from mome.replication.counting.flops import Decoder, Pass, full_step, linear, lora_step, memory_step
from mome.replication.counting.meter import METHODS
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.sec1_cost.audit import PRINTED, audit, inputs, printed_energy
from mome.replication.paper.sec1_cost.calculator import calculator
from mome.replication.paper.sec1_cost.cost import ACCELERATORS, bill, quantity, training_flops
from mome.replication.paper.sec1_cost.experiment import CostPlan, bill_rows, count_by_experts
from mome.replication.paper.sec1_cost.figure import bills
from mome.replication.paper.sec1_cost.metrics import (
    audit_metrics,
    bill_metrics,
    billed,
    bills_table,
    far_bill,
    far_limits,
    forecast_metrics,
    forecast_table,
    forecasts,
    hours_on_eight,
    mean_bill,
    one_hour,
)

__all__ = [
    "ACCELERATORS",
    "METHODS",
    "PRINTED",
    "CostPlan",
    "Decoder",
    "Pass",
    "Session",
    "asked_backbone",
    "audit",
    "audit_metrics",
    "bill",
    "bill_metrics",
    "bill_rows",
    "billed",
    "bills",
    "bills_table",
    "calculator",
    "check",
    "count_by_experts",
    "far_bill",
    "far_limits",
    "forecast_metrics",
    "forecast_table",
    "forecasts",
    "full_step",
    "hours_on_eight",
    "inputs",
    "linear",
    "lora_step",
    "mean_bill",
    "memory_step",
    "metric",
    "one_hour",
    "own_claims",
    "printed_energy",
    "quantity",
    "report",
    "training_flops",
]
