"""Notebook 03: where pretraining ends, by scaling laws (figure 2).

Start at `experiment`, which compares the laws with the shipped backbones' own losses; `figure` draws both.
"""
