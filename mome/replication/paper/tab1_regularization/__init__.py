"""Notebook 02: regularization does not keep a model from memorizing (table 1).

Start at `experiment`, which varies one setting at a time; `figure` draws what each variation does to other answers.
"""
