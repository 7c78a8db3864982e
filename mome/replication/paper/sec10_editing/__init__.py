"""Notebook 16: single facts are edited, and what the editing field measures of it (section 10)."""
