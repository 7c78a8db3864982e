"""Notebook 11: time and memory as the number of experts grows (section 7)."""
