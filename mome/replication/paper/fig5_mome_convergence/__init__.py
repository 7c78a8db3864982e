"""Notebook 06: memory experts converge as LoRA does, and ablations (figure 5)."""
