"""Causal language models as such, with or without an adapter: loading, encoding, losses, generation.

Nothing here knows of memory experts.
"""
