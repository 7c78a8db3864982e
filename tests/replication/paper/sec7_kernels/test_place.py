"""Without a GPU the kernels run in the interpreter, with one on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mome.replication.paper.sec7_kernels import place

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(("gpu", "device"), [(False, "cpu"), (True, "cuda")])
@pytest.mark.parametrize(("triton", "impl"), [(object(), "triton"), (None, "reference")])
def test_the_place_and_the_implementation(
    gpu: bool, device: str, triton: object, impl: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(place, "find_spec", lambda name: triton)
    assert place.where_kernels_run() == (device, impl)


USE = """
import torch
from mome.replication.paper.sec7_kernels import lab
queries, keys = torch.randn(2, 8), torch.randn(100, 8)
device, impl = lab.where_kernels_run()
found = lab.topk_flat(queries, keys, 5, impl=impl)[1]
assert torch.equal(found, lab.topk_flat(queries, keys, 5, impl="reference")[1])
print(impl, lab.rows_gather(keys, found[0], impl=impl).shape[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_a_fresh_process_without_any_setting_runs_the_kernels_in_the_interpreter():
    """As the notebook's kernel does; here, the tests' own settings have chosen the interpreter before."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "5"
