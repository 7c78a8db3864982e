"""What notebook 09 uses of the package: each name, from the module that defines it."""

from mome.lm.generation import hallucinated
from mome.replication.experiments.material import gather
from mome.replication.methods.retrieval import Retrieval
from mome.replication.methods.search import Bm25, Tfidf
from mome.replication.methods.sql import SqlLookup, normalised
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.session import Session
from mome.replication.paper.sec4_retrieval.experiment import method_rows
from mome.replication.paper.sec4_retrieval.figure import methods
from mome.replication.paper.sec4_retrieval.measure import trade_offs
from mome.replication.paper.sec4_retrieval.metrics import compare, table_metrics
from mome.replication.paper.sec4_retrieval.workshop import INDEXES, METHODS, SEARCHES, RetrievalPlan, Workshop

__all__ = [
    "INDEXES",
    "METHODS",
    "SEARCHES",
    "Bm25",
    "Retrieval",
    "RetrievalPlan",
    "Session",
    "SqlLookup",
    "Tfidf",
    "Workshop",
    "check",
    "compare",
    "gather",
    "hallucinated",
    "method_rows",
    "methods",
    "normalised",
    "table_metrics",
    "trade_offs",
]
