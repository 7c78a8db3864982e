"""Notebook 08: what training costs, by formula and by count (section 1.1).

Start at `cost`, the closed form (FLOPs, days, power, dollars), and `audit`, which derives the paper's values again.
`experiment` measures our own runs, `forecast` fits a power law to them; `metrics` and `figure` show both.
"""
