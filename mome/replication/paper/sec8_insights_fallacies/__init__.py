"""Notebook 13: the paper's insights and fallacies (section 8).

Start at `experiment`, which makes models that differ in recall alone. `kept_scores` reads what long tests of a real
model found, `statistics` has paired differences and bounds of shares, `figure` draws them.
"""
