"""A pretended GPU: tensors that say they lie on "cuda", compute on the CPU, and refuse to meet a tensor of the CPU.

A mistake that only shows where the model lies on another device than the tables shows on a machine without a GPU. The
tensors do not say that they are `is_cuda`, so that the plain definitions of the kernels compute.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CUDA = torch.device("cuda", 0)
ATEN = torch.ops.aten
# these take numbers or places from the CPU, as they do on a real GPU
MIXING = {ATEN.copy_.default, ATEN.index.Tensor, ATEN.index_put_.default, ATEN._index_put_impl_.default}


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU; `inner` has its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGpu":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="meta"
        )
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:
        return CUDA

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def item(self) -> Any:
        return self.inner.item()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        to_cpu = func is ATEN._to_copy.default and _type(kwargs.get("device")) == "cpu"
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        flat, spec = tree_flatten((args, kwargs))
        if func not in MIXING:
            for each in flat:
                if type(each) in (torch.Tensor, torch.nn.Parameter) and each.dim():
                    raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU, {list(each.shape)}")
        inner_args, inner_kwargs = tree_unflatten([_inner(each) for each in flat], spec)
        found = func(*inner_args, **inner_kwargs)
        if to_cpu or func is ATEN._local_scalar_dense.default:
            return found
        if func is ATEN.copy_.default and type(args[0]) is not OnGpu:
            return args[0]
        wrapped = tree_map(lambda each: OnGpu(each) if isinstance(each, torch.Tensor) else each, found)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnGpu) else value


def _type(device: Any) -> str:
    return "" if device is None else torch.device(device).type


class _Copied(torch.autograd.Function):
    """From the CPU to the pretended GPU, gradients the other way."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        return OnGpu(tensor.detach().clone())

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _inner(gradient)


class _Device(TorchFunctionMode):
    """Sends what is made for, or moved to, "cuda" to the pretended one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to or func is torch.Tensor.cuda:
            return _moved(func, args, kwargs)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], _places(args[1]), *args[2:])
        if func is torch.Tensor.backward:
            return self._backward(*args, **kwargs)
        if func is torch.Tensor.cpu:
            return _moved(torch.Tensor.to, (args[0], "cpu"), {})
        if _type(kwargs.get("device")) == "cuda" and not (args and isinstance(args[0], OnGpu)):
            return OnGpu(func(*args, **(kwargs | {"device": "cpu"})))
        return func(*args, **kwargs)

    def _backward(self, loss: torch.Tensor, gradient: Any = None, **_: Any) -> None:
        """As `Tensor.backward`, with this mode in the backward functions that are written in Python, too."""
        gradient = torch.ones_like(loss) if gradient is None else gradient
        with self:
            run = torch.autograd.graph._engine_run_backward
            run((loss,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)


class _Made(TorchDispatchMode):
    """What C++ makes beside a tensor of `OnGpu` is made for "meta", the device that it has there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        ours = any(isinstance(each, OnGpu) for each in tree_flatten((args, kwargs))[0])
        if not ours and _type(kwargs.get("device")) == "meta":
            return OnGpu(func(*args, **(kwargs | {"device": torch.device("cpu")})))
        return func(*args, **kwargs)


def _places(index: Any) -> Any:
    """An index whose lists are tensors: C++ would make one for "meta", without numbers."""
    parts = index if isinstance(index, tuple) else (index,)
    found = tuple(torch.tensor(each) if isinstance(each, list) and each else each for each in parts)
    return found if isinstance(index, tuple) else found[0]


def _moved(func: Any, args: Any, kwargs: Any) -> Any:
    """`Tensor.to` with any of its arguments; how it copies does not matter."""
    tensor, *rest = args
    given = [*rest, kwargs.get("device"), kwargs.get("dtype"), kwargs.get("other")]
    others = [each for each in given if isinstance(each, torch.Tensor)]
    devices = [_type(each) for each in given if isinstance(each, torch.device | str)] + [
        each.device.type for each in others
    ]
    dtypes = [each for each in given if isinstance(each, torch.dtype)] + [each.dtype for each in others]
    device = "cuda" if func is torch.Tensor.cuda else devices[0] if devices else ""
    if device == "cuda" and not isinstance(tensor, OnGpu):
        tensor = _Copied.apply(tensor)
    if device == "cpu" and isinstance(tensor, OnGpu):
        tensor = ATEN._to_copy.default(tensor, device=torch.device("cpu"))
    return torch.Tensor.type(tensor, dtypes[0]) if dtypes and tensor.dtype != dtypes[0] else tensor


def _gathered(table: torch.Tensor, ids: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """As `rows_gather`, an operation in which the modes are off."""
    return _moved(torch.Tensor.to, (table.index_select(0, ids), device), {})


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """While the context lasts, `tensor.to("cuda")` and `torch.zeros(..., device="cuda")` make tensors of `OnGpu`."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter cannot become another type in place
    try:
        with patch("mome.adapter.bank.rows_gather", _gathered), _Device(), _Made():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
