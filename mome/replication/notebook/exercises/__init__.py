"""Exercises of the notebooks that check themselves: `check("01.a", answer)` says why an answer is wrong, if it is.

Start at `checking`, which a notebook calls and which has the one dictionary of all exercises. Each exercise is a small
function that marks an answer, in the module of its notebooks. `marking` compares numbers and choices, `coding` runs a
reader's function on random inputs beside the package's own.
"""
