"""Notebook 11: time and memory as the number of experts grows (section 7).

Start at `experiment`, the time of a lookup. `footprint` measures the memory of a process; `metrics` and `figure` show
both, with the tables of `mome.replication.bench.steps`.
"""
