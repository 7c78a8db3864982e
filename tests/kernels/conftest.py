"""Kernels run compiled where there is a CUDA device, and in Triton's interpreter elsewhere."""

import os
from importlib.util import find_spec

import pytest
import torch

# read when a kernel is decorated, so it has to stand before any kernel is imported
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernels are tested: "cuda", or "cpu" in the interpreter. Skips where Triton is not installed."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    return "cuda" if torch.cuda.is_available() else "cpu"
