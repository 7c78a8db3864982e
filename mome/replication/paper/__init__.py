"""One folder for each notebook, named as the notebook is without its number.

Start at `start_here`. In each folder `experiment` runs and returns numbers, `metrics` makes metrics of a table, and
`figure` draws. No folder imports another one.
"""
