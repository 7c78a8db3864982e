"""Notebook 05: the architecture of a mixture of memory experts (figure 4).

Start at `experiment`, which reads sizes and places off a live model; `figure` draws the way of one question through it.
"""
