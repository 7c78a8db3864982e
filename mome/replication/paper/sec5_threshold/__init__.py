"""Notebook 10: below which loss a model answers right (section 5)."""
