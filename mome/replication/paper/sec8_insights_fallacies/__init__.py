"""Notebook 13: the paper's insights and fallacies (section 8)."""
