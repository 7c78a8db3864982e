"""Kills and damage on purpose: is anything lost, or loaded wrong? (`mome faults`, `make faults`)

Start at `command`. `killing` and `damaging` are the two loops, `actions` the commands that are killed, `ground` the
adapters on which they are tried.
"""
