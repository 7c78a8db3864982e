"""Notebook 02: regularization does not keep a model from memorizing (table 1)."""
