"""The command `mome table`: the long measurements behind the committed tables, each into a CSV file.

Start at `options`, which has what all tables share; `sections` has the tables of single sections of the paper, `runs`
those of runs on a real language model.
"""

from mome.cli.table import runs, sections
from mome.cli.table.options import table

__all__ = ["runs", "sections", "table"]
