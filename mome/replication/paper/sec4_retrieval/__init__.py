"""Notebook 09: retrieval, prompting and memory side by side (section 4)."""
