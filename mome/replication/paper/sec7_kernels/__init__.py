"""Notebook 12: the kernels on a GPU (section 7)."""
