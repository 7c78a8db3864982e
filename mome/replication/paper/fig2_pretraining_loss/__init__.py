"""Notebook 03: the loss of pretraining by scaling laws (figure 2)."""
