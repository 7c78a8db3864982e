"""What notebook 12 uses of the package: each name, from the module that defines it."""

# before anything that imports Triton
from mome.replication.paper.sec7_kernels.place import where_kernels_run

# isort: split
from mome.kernels.lora_gather import lora_gather_backward, lora_gather_forward
from mome.kernels.row_update import adam_
from mome.kernels.rows_gather import rows_gather
from mome.kernels.topk_flat import topk_flat
from mome.kernels.topk_product_key import topk_product_key
from mome.replication.bench import traffic
from mome.replication.bench.tables import results_folder
from mome.replication.bench.timing import difference
from mome.replication.counting.work import lookup_work, token_work
from mome.replication.ledger.verdicts import own_claims, report
from mome.replication.notebook.exercises.checking import check
from mome.replication.notebook.results import metric
from mome.replication.notebook.session import Session
from mome.replication.paper.sec7_kernels.figure import kernels, read_tables, timed
from mome.replication.paper.sec7_kernels.reading import kernel_source

__all__ = [
    "Session",
    "adam_",
    "check",
    "difference",
    "kernel_source",
    "kernels",
    "lookup_work",
    "lora_gather_backward",
    "lora_gather_forward",
    "metric",
    "own_claims",
    "read_tables",
    "report",
    "results_folder",
    "rows_gather",
    "timed",
    "token_work",
    "topk_flat",
    "topk_product_key",
    "traffic",
    "where_kernels_run",
]
