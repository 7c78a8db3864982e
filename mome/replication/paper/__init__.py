"""One folder for each notebook, named as the notebook is without its number; no folder imports another.

`experiment` runs and returns numbers, `metrics` makes metrics of a table, `figure` draws.
"""
