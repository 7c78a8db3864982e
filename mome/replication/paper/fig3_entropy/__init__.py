"""Notebook 04: the entropy of the next token, and wrong answers (figure 3)."""
