"""What notebook 15 uses of the package: each name, from the module that defines it."""

from mome.files.environment import work_folder
from mome.files.hashing import file_sha256
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.session import Session
from mome.replication.paper.text_to_sql.database import (
    PHRASINGS,
    SPLITS,
    TUNED,
    asked,
    build_database,
    chosen,
    schema,
    workshop_pairs,
)
from mome.replication.paper.text_to_sql.execution import asks_for_order, executes_right, run_sql
from mome.replication.paper.text_to_sql.experiment import contest_rows
from mome.replication.paper.text_to_sql.figure import execution_accuracy
from mome.replication.paper.text_to_sql.metrics import accuracy_metrics, read_table
from mome.replication.paper.text_to_sql.systems import COPY, ELSE_COPY, MOME, MOME_RAG, SYSTEMS, Contest, TextToSqlPlan

__all__ = [
    "COPY",
    "ELSE_COPY",
    "MOME",
    "MOME_RAG",
    "PHRASINGS",
    "SPLITS",
    "SYSTEMS",
    "TUNED",
    "Contest",
    "Session",
    "TextToSqlPlan",
    "accuracy_metrics",
    "asked",
    "asks_for_order",
    "build_database",
    "check",
    "chosen",
    "contest_rows",
    "executes_right",
    "execution_accuracy",
    "file_sha256",
    "own_claims",
    "read_table",
    "report",
    "run_sql",
    "schema",
    "work_folder",
    "workshop_pairs",
]
