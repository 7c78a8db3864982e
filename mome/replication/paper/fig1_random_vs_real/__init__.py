"""Notebook 01: random answers are memorized as real ones are (figure 1)."""
