"""Measurements that several notebooks share.

Start at `memorized` (runs of memory experts) and `lora` (runs of LoRA). `pools` draws the facts, `plan` has the
settings of a run, `abilities` measures what a model can do besides, `capacity` how much experts can hold.
"""
