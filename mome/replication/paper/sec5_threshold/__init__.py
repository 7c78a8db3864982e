"""Notebook 10: below which loss a model cannot be wrong (section 5).

Start at `theory`, the bounds, and `simple_network`, where they are exact. `experiment` compares tuning runs with them,
`metrics` counts violations, `figure` draws both.
"""
