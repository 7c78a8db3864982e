"""Notebook 12: the kernels on a GPU (section 7).

Start at `figure`, which reads the committed tables of `mome bench` and draws them.
"""
