"""Notebook 06: convergence of memory experts and LoRA, and ablations (figure 5).

Start at `experiment`, which measures the table of ablations; `figure` draws the losses of both methods. The runs are
those of `mome.replication.experiments.memorized`. For a real model `real_tables` reads the kept tables, and `bars`
has the bars that this project set itself; the rules of the claims are in `ledger`.
"""
