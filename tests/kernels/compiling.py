"""Compiles the kernels for an H200 on any machine: each operation is launched as usual, but nothing is executed.

Run by itself, without TRITON_INTERPRET, it prints one line of JSON for each compiled kernel and each failed launch.
"""

import json
import re
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

Launch = Callable[[], object]


class NoDevice(DriverBase):
    """Says that it drives an H200, and reports what it is given to run instead of running it."""

    def __init__(self) -> None:
        self.utils = self
        self.launcher_cls = self.report
        self.get_current_stream = self.get_current_device = lambda *_: 0

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise NotImplementedError

    def get_benchmarker(self) -> Any:
        raise NotImplementedError

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 2**31}  # the test knows the true limit

    def report(self, source: Any, metadata: Any) -> Launch:
        """Called with each newly compiled kernel, to make its launcher."""
        self.found = {
            "kernel": f"{source.fn.fn.__module__.split('.')[2]}/{metadata.name}",
            "types": [kind for kind in source.signature.values() if kind.startswith("*")],
            "warps": metadata.num_warps,
            "shared": metadata.shared,
        }
        return lambda *_: None

    def load_binary(self, name: str, binary: bytes, *_: Any) -> tuple[None, None, int, int, int]:
        """Called after that, to put the kernel onto the device."""
        print(json.dumps({**self.found, **usage(binary)}), flush=True)
        return None, None, 0, 0, 1024


def usage(binary: bytes) -> dict[str, int]:
    """Registers of a thread, and the bytes of its stack, where registers that do not fit are spilled."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", shown)[-1]
    return {"registers": int(registers), "stack": int(stack)}


def counter(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.counter import triton

    ids = torch.arange(64)
    if dtype == torch.float32:  # its only dtype
        yield lambda: triton.uniform(1, 2, ids, 4096)
        yield lambda: triton.stochastic_round(torch.empty(64, 8192), 1, 2, ids)


def lora_gather(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.lora_gather import triton
    from mome.kernels.lora_gather.reference import Needs

    for questions, tokens, rows_in in ((8, 128, dtype), (8, 128, torch.float32), (1, 1, torch.float32)):
        x = torch.empty(questions, tokens, 4096, dtype=dtype)
        tables = torch.empty(2, 200, 1, 4096, dtype=rows_in)
        chosen = (torch.zeros(questions, 32, dtype=torch.int64), torch.ones(questions, 32))
        yield lambda x=x, tables=tables, chosen=chosen: [
            triton.lora_gather(x, *tables, *chosen, y, dtype) for y in (None, x)
        ]
        hidden = torch.empty(questions, tokens, 32, dtype=dtype)
        yield lambda x=x, tables=tables, chosen=chosen, hidden=hidden: triton.lora_gather_backward(
            x, x, *tables, *chosen, hidden, Needs(True, True, True, True), 1, dtype
        )


def row_sum(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.row_sum import triton

    yield lambda: triton.segment_sum(torch.arange(256), torch.arange(200), torch.empty(256, 8192, dtype=dtype))


def row_update(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.row_update import triton
    from mome.kernels.row_update.reference import Adafactor, Adam

    rows, steps, ids = torch.empty(1000, 8192, dtype=dtype), torch.ones(1000, dtype=torch.int32), torch.arange(256)
    averages = torch.empty(2, 1000, 8192)
    adam, adafactor = Adam(1e-3, (0.9, 0.999), 1e-8), Adafactor(2e-4, 1e-30, 1.0, -0.8)
    for order in (None, ids):
        given = (ids, torch.empty(256, 8192, dtype=dtype), order)
        yield lambda given=given: triton.adam_(rows, *averages, steps, *given, adam, 1, 2)
        state = (torch.empty(1000), torch.empty(8192), steps, torch.tensor(1))
        yield lambda given=given, state=state: triton.adafactor_(rows, *state, *given, adafactor, 1, 2)


def rows_gather(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.rows_gather import triton

    for table in tables(dtype):
        yield lambda table=table: triton.rows_gather(table, torch.arange(64), table.device)


def rows_scatter(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.rows_scatter import triton

    for table in tables(dtype):
        yield lambda table=table: triton.rows_scatter(table, torch.arange(64), table[:64])


def tables(dtype: torch.dtype) -> Iterator[Tensor]:
    """A bank's table, and one of numbers of its rows."""
    yield torch.empty(1000, 8192, dtype=dtype)
    yield torch.empty(1000, 1, dtype=dtype)


def topk_flat(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.topk_flat import triton

    for queries, keys in ((8, 2**20), (256, 2**20), (8, 500)):
        some = [torch.empty(count, 256, dtype=dtype) for count in (queries, keys)]
        yield lambda some=some: triton.search(*some, 32)


def topk_product_key(dtype: torch.dtype) -> Iterator[Launch]:
    from mome.kernels.topk_product_key import triton

    for size in (1024, 100):
        halves = torch.empty(2, size, 128, dtype=dtype)
        yield lambda halves=halves: triton.search(torch.empty(8, 256, dtype=dtype), *halves, 32)


def main() -> None:
    driver.set_active(NoDevice())
    for launches in (counter, lora_gather, row_sum, row_update, rows_gather, rows_scatter, topk_flat, topk_product_key):
        for dtype in (torch.float32, torch.bfloat16):
            for number, launch in enumerate(launches(dtype)):
                try:
                    launch()
                except Exception:
                    error, name = traceback.format_exc(chain=False), f"{launches.__name__} {dtype} {number}"
                    print(json.dumps({"launch": name, "error": error}), flush=True)


if __name__ == "__main__":
    main()
