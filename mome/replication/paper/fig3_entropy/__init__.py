"""Notebook 04: next-token distributions at high, low and zero loss (figure 3).

Start at `experiment`, which measures entropy and wrong answers at several losses; `figure` draws them.
"""
