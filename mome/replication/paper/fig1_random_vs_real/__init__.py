"""Notebook 01: random answers are memorized as fully as real ones (figure 1).

Start at `figure`, which draws the losses of both. The runs are those of `mome.replication.experiments.lora`.
"""
