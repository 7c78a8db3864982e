"""Where the kernels run here: on a GPU, or in Triton's interpreter, or nowhere."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch


def where_kernels_run() -> tuple[str, str]:
    """The device, and the implementation that runs there: "triton", or "reference" without Triton.

    Without a GPU the kernels run in Triton's interpreter, on the CPU: it is turned on for this process, which works
    only before the first kernel is used.
    """
    impl = "triton" if find_spec("triton") else "reference"
    if torch.cuda.is_available():
        return "cuda", impl
    os.environ["TRITON_INTERPRET"] = "1"
    return "cpu", impl
