"""Marks for an answer that is a function: it is run on random inputs, beside what the package computes from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mome.replication.notebook.exercises.marking import NOT_YET, Mark, right, unanswered, wrong

Function = Callable[..., Any]
TOLERANCE = 1e-4  # relative, and absolute: the reader may compute in f32 and in another order


def function(
    given: Any,
    inputs: Sequence[tuple[Any, ...]],
    expected: Function,
    *,
    follows: str,
    hint: str,
    mistakes: Mapping[str, Function] | None = None,
) -> Mark:
    """Mark a function by what it returns.

    Args:
        given: the reader's function. It is called with each of the `inputs`, and an error in it is raised as it is, so
            that the traceback shows the reader's own line.
        inputs: positional arguments of each call.
        expected: the package's function of the same arguments; returns a tensor, or a tuple of them.
        follows: what is said of a right answer.
        hint: what is said of a wrong one whose mistake is not known.
        mistakes: the reason of each known mistake, and a function that makes it.
    """
    if not callable(given):
        kind = type(given).__name__
        return wrong(f"a function is asked for, not something of type {kind}: give its name without brackets.")
    for arguments in inputs:
        found = given(*arguments)
        if unanswered(found):
            return NOT_YET
        wanted = expected(*arguments)
        if _same(found, wanted):
            continue
        reasons = [reason for reason, made in (mistakes or {}).items() if _same(found, made(*arguments))]
        return wrong(reasons[0] if reasons else _difference(found, wanted) or hint)
    return right(follows)


def _tensors(values: Any) -> tuple[torch.Tensor, ...] | None:
    """What a function returned as tensors; None if it is nothing of that kind."""
    parts = values if isinstance(values, tuple) else (values,)
    try:
        return tuple(torch.as_tensor(part) for part in parts)
    except (TypeError, ValueError, RuntimeError):
        return None


def _same(found: Any, wanted: Any) -> bool:
    ours, theirs = _tensors(found), _tensors(wanted)
    if ours is None or theirs is None or [each.shape for each in ours] != [each.shape for each in theirs]:
        return False
    pairs = zip(ours, theirs, strict=True)
    return all(torch.allclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE) for a, b in pairs)


def _difference(found: Any, wanted: Any) -> str:
    """One sentence on a wrong type or shape; empty if both are right."""
    ours, theirs = _tensors(found), _tensors(wanted) or ()
    if ours is None:
        return f"it returns something of type {type(found).__name__}; a tensor is asked for."
    if len(ours) != len(theirs):
        return f"it returns {len(ours)} tensor(s); {len(theirs)} are asked for."
    for ours_, theirs_ in zip(ours, theirs, strict=True):
        if ours_.shape != theirs_.shape:
            return f"it returns the shape {list(ours_.shape)}; {list(theirs_.shape)} is asked for."
    return ""
