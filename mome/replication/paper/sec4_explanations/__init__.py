"""Notebook 14: which causes suffice for hallucinations (section 4).

Start at `conditions`, a training set for each proposed cause. `experiment` trains on each, `answers` counts
hallucinations; `metrics` says which causes suffice, `figure` draws the rates.
"""
