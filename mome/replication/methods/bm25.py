"""The package bm25s, imported so that it takes no memory of a GPU."""

from __future__ import annotations

import os

# bm25s tries JAX at import where JAX is installed, and JAX then takes three quarters of a GPU's memory (105 of 140 GiB)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import bm25s

__all__ = ["bm25s"]
