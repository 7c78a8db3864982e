"""Which implementation computes an operation: the plain torch reference, or the Triton kernel."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor

CHOICES = ("auto", "reference", "triton")


def implementation(op: str, impl: str, *tensors: Tensor, obstacle: str | None = None) -> ModuleType:
    """The module `mome.kernels.<op>.<impl>` that computes `op` on these tensors.

    "auto" takes the Triton kernel for tensors on a CUDA device where it can, and the reference everywhere else. Under
    TRITON_INTERPRET=1, set before the kernel is first used, "triton" also runs on the CPU, slowly, for tests and study.

    Args:
        op: the operation's name.
        impl: "auto", "reference" or "triton".
        tensors: what it works on.
        obstacle: why the kernel cannot take these arguments, if it cannot.

    Raises:
        ValueError: an unknown `impl`, or tensors on several devices.
        RuntimeError: "triton" was asked for and cannot be had; the message says why.
    """
    if impl not in CHOICES:
        raise ValueError(f"{op}: impl must be one of {', '.join(CHOICES)}, got {impl!r}")
    check_devices(op, *tensors)
    if impl == "reference":
        return import_module(f"mome.kernels.{op}.reference")
    on_cuda = all(tensor.is_cuda for tensor in tensors)
    if impl == "auto" and not on_cuda:
        return import_module(f"mome.kernels.{op}.reference")
    obstacle = obstacle or _missing(on_cuda)
    if obstacle is None:
        return import_module(f"mome.kernels.{op}.triton")
    if impl == "triton":
        raise RuntimeError(f"{op}: impl='triton' is not possible: {obstacle}")
    return import_module(f"mome.kernels.{op}.reference")


def check_devices(op: str, *tensors: Tensor) -> None:
    """Refuse tensors on several devices. Raises ValueError naming these."""
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"{op}: the tensors lie on several devices: {', '.join(sorted(map(str, devices)))}")


def check_count(op: str, name: str, value: object) -> None:
    """Refuse what is no whole number. Raises ValueError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{op}: {name} must be a whole number, got {value!r}")


def check_floats(op: str, **tensors: Tensor) -> None:
    """Refuse tensors that do not hold real floating-point numbers. Raises ValueError naming the first."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{op}: {name} must be floating point, got {tensor.dtype}")


def interpreting() -> bool:
    """Whether Triton kernels run in its interpreter, on the CPU."""
    from triton import knobs

    return bool(knobs.runtime.interpret)


def _missing(on_cuda: bool) -> str | None:
    """What this machine lacks for a Triton kernel."""
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if not on_cuda and not interpreting():
        return "the tensors are on the CPU, and TRITON_INTERPRET=1 is not set"
    return None
