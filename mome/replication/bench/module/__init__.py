"""Benchmark 1: the training step of one adapted linear module, by our kernels and by others.

Start at `problem`, the step with its expected result. `contenders` has our kernels, `rivals` the others, `step` takes
the times.
"""
