"""Where the kernels run here: on a GPU, or in Triton's interpreter, or nowhere.

Without a GPU the import of this module turns the interpreter on for the process. It has to come before Triton's own
import, which torch's FLOP counter is the first to do in notebook 12.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def where_kernels_run() -> tuple[str, str]:
    """The device, and the implementation that runs there: "triton", or "reference" without Triton."""
    return "cuda" if torch.cuda.is_available() else "cpu", "triton" if find_spec("triton") else "reference"
