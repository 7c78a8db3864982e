"""Counting what a computation takes, without a clock.

Start at `flops`, the closed forms. `meter` counts while something runs, by torch's own counter; `work` has the numbers
that are the same on any machine.
"""
