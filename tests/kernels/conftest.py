"""Kernels run compiled where there is a CUDA device, and in Triton's interpreter elsewhere."""

from importlib.util import find_spec

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernels are tested: "cuda", or "cpu" in the interpreter. Skips where Triton is not installed."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    return "cuda" if torch.cuda.is_available() else "cpu"
