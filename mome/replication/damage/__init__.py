"""Measures that see what tuning does to a language model: before and after, paired by item.

Start at `measure`, which runs all of them and keeps their tables; `summary` makes one row of each. The questions,
passages and wordings that they ask are in data/measures.
"""
