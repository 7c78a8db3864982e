"""Which implementation an operation gets, and what is refused."""

import pytest
import torch
from triton import knobs

from mome.kernels import dispatch, row_sum
from mome.kernels.dispatch import implementation

TENSOR = torch.zeros(2)


def test_the_cpu_gets_the_reference():
    for impl in ("auto", "reference"):
        assert implementation("row_sum", impl, TENSOR) is row_sum.reference


def test_the_kernel_runs_on_the_cpu_in_the_interpreter_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    assert implementation("row_sum", "triton", TENSOR).__name__ == "mome.kernels.row_sum.triton"
    monkeypatch.setattr(knobs.runtime, "interpret", False)
    with pytest.raises(RuntimeError, match=r"row_sum: impl='triton' is not possible: .* TRITON_INTERPRET=1 is not set"):
        implementation("row_sum", "triton", TENSOR)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gets_the_kernel():
    assert implementation("row_sum", "auto", TENSOR.cuda()).__name__ == "mome.kernels.row_sum.triton"


def test_an_obstacle_is_named_where_the_kernel_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    with pytest.raises(RuntimeError, match="not possible: float64 is not supported"):
        implementation("row_sum", "triton", TENSOR, obstacle="float64 is not supported")
    assert implementation("row_sum", "auto", TENSOR, obstacle="any") is row_sum.reference


def test_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="the package triton is not installed"):
        implementation("row_sum", "triton", TENSOR)
    assert implementation("row_sum", "auto", TENSOR) is row_sum.reference


def test_misuse_is_named():
    with pytest.raises(ValueError, match="row_sum: impl must be one of auto, reference, triton, got 'cuda'"):
        implementation("row_sum", "cuda", TENSOR)
    with pytest.raises(ValueError, match="several devices: cpu, meta"):
        implementation("row_sum", "auto", TENSOR, TENSOR.to("meta"))
