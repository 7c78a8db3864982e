"""Without a GPU the kernels run in the interpreter, with one on it."""

import os

import pytest
import torch

from mome.replication.paper.sec7_kernels import place


@pytest.mark.parametrize(("gpu", "device"), [(False, "cpu"), (True, "cuda")])
@pytest.mark.parametrize(("triton", "impl"), [(object(), "triton"), (None, "reference")])
def test_the_place_and_the_implementation(
    gpu: bool, device: str, triton: object, impl: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(place, "find_spec", lambda name: triton)
    monkeypatch.setenv("TRITON_INTERPRET", "")
    assert place.where_kernels_run() == (device, impl)
    assert os.environ["TRITON_INTERPRET"] == ("" if gpu else "1")
