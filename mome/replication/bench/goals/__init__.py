"""The performance goals, compared with what was measured.

Start at `goal`: what a goal is, and the row that it makes. `gpu` has those on one GPU, `cpu` those on two CPU cores.
The bounds were written before the numbers, and a row that is missed says so.
"""
