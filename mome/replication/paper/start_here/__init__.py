"""Notebook 00: one fact is taught, asked for, and taken back.

Start at `figure`, which draws the three states. All else is the public API (`mome.memory`).
"""
