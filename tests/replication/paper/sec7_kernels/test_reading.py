"""The kernel that the notebook prints is the one that runs."""

import pytest

from mome.replication.paper.sec7_kernels.reading import kernel_source


def test_the_source_is_the_kernel_with_its_decorator_and_nothing_else():
    lines = kernel_source("rows_gather", "_gather_kernel").splitlines()
    assert lines[0].startswith("@triton.jit") and lines[1].startswith("def _gather_kernel(")
    assert lines[-1].startswith("    tl.store(") and len(lines) < 15


@pytest.mark.parametrize(
    ("operation", "kernel", "problem"),
    [("rows_gather", "_kernel", "rows_gather has no kernel '_kernel'"), ("gather", "_x", "no operation 'gather'")],
)
def test_what_is_not_there_is_named(operation: str, kernel: str, problem: str):
    with pytest.raises(ValueError, match=problem):
        kernel_source(operation, kernel)
