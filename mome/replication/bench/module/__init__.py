"""The training step of one module: the problem, our kernels, their rivals, and the times."""
