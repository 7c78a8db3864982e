"""Notebook 13: the paper's insights and fallacies (section 8).

Start at `experiment`, which makes models that differ in recall alone. `statistics` has paired differences and bounds
of shares, `figure` draws them.
"""
