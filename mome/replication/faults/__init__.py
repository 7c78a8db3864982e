"""Kills and damage on purpose: whether anything is lost, or loaded wrong (`mome faults`, `make faults`)."""
