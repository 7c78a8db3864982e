"""Notebook 05: the architecture of a mixture of memory experts (figure 4)."""
