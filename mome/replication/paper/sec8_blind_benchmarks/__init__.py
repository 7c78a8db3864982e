"""Notebook 17: do the standard benchmarks see that a model is ruined? (paper, sections 3 and 8)

Start at `detectors`, which asks of each benchmark how well its fall tells ruined checkpoints from others. `experiment`
has the live run of a small backbone, `figure` draws when the leak jumps and what each benchmark sees of it.
"""
