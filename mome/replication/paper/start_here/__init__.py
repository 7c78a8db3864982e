"""Notebook 00: one fact is taught, asked for, and taken back."""
