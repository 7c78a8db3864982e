"""Counting while something runs: forward passes of a decoder and their shapes, seconds, FLOPs as torch counts them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mome.adapter.model import mome_model
from mome.lm.decoder import Skip
from mome.replication.counting.flops import Decoder, Pass, full_step, linear, lora_step, memory_check, memory_step

FULL, LORA, MOME, ROUTER = "full", "lora", "mome", "router"
METHODS = (FULL, LORA, MOME)
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """One pass: its shape, whether it has gradients and experts; CPU seconds and counted FLOPs until it starts."""

    batch: Pass
    learns: bool
    experts: bool
    cpu: float
    counted: int = 0


class Meter:
    """Watches all passes through a model's decoder while the context lasts.

    After it: `passes`, wall `seconds`, `cpu_seconds` (of all threads), and `counted` FLOPs if `counting`, which slows
    what runs.
    """

    def __init__(self, model: Any, counting: bool = False) -> None:
        self.causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.mome = mome_model(model)
        self.passes: list[Seen] = []
        self.seconds = self.cpu_seconds = 0.0
        self.counted: int | None = None
        self._counter = FlopCounterMode(display=False, custom_mapping=expert_formulas()) if counting else None
        self._scored, self._stack = 0, ExitStack()

    def __enter__(self) -> Meter:
        decoder = self.causal.get_decoder()
        for module, hook in ((self.causal, self._before), (decoder, self._see)):
            self._stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        if self._counter is not None:
            self._stack.enter_context(self._counter)
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._started
        self.seconds, self.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        self._stack.close()
        if self._counter is not None:
            self.counted = self._counter.get_total_flops()

    def _before(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._scored = int(kwargs.get("logits_to_keep", 0))

    def _see(self, decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids")
        rows, tokens = (kwargs["inputs_embeds"] if ids is None else ids).shape[:2]
        layers = sum(not isinstance(layer, Skip) for layer in decoder.layers)
        chosen = self.mome.selection if self.mome else None
        experts = chosen is not None and chosen.block is not None
        batch, self._scored = Pass(rows, tokens, layers, self._scored), 0
        counted = self._counter.get_total_flops() if self._counter else 0
        cpu = time.process_time() - self._started[1]
        self.passes.append(Seen(batch, torch.is_grad_enabled(), experts, cpu, counted))

    def counted_steps(self) -> int:
        """FLOPs of training steps: counted from the start of a pass with gradients to the start of the next pass."""
        ends = [*(seen.counted for seen in self.passes[1:]), self.counted or 0]
        return sum(end - seen.counted for seen, end in zip(self.passes, ends, strict=True) if seen.learns)


def closed_form(method: str, model: Any, passes: Sequence[Seen], rank: int, other: Decoder | None = None) -> int:
    """The FLOPs of these passes by `flops`; `rank` is LoRA's, or the number of experts K of a question.

    Every pass that learns is a training step of the method. The choice of experts itself is in no closed form. With
    `other`, what the same passes would take there: as many tokens through the same share of its layers.
    """
    own, mome = Decoder.of(model.config), mome_model(model)
    adapted, decoder = own.layers - mome.first_layer if mome else 0, other or own
    total = 0
    for seen in passes:
        batch = replace(seen.batch, layers=seen.batch.layers * decoder.layers // own.layers)
        met = adapted * decoder.layers // own.layers if seen.experts else 0
        total += _pass_flops(method, decoder, replace(seen, batch=batch), met, rank)
    return total


def _pass_flops(method: str, decoder: Decoder, seen: Seen, adapted: int, rank: int) -> int:
    if not seen.learns:
        return memory_check(decoder, seen.batch, adapted, rank)
    if method == FULL:
        return full_step(decoder, seen.batch)
    return (lora_step if method == LORA else memory_step)(decoder, seen.batch, rank)


def expert_formulas() -> dict[Any, Any]:
    """The FLOPs of the experts' operators, which torch's counter does not look into, for `FlopCounterMode`."""
    known = {"lora_gather": _gather, "lora_gather_backward": _gather_backward}
    return {getattr(torch.ops.mome, name): formula for name, formula in known.items() if hasattr(torch.ops.mome, name)}


def _gather(x: Shape, a: Shape, b: Shape, ids: Shape, *_: Any, **__: Any) -> int:
    slices = ids[1] * a[1]
    return x[0] * linear(x[1], a[2] + b[2], slices)


def _gather_backward(gradient: Shape, x: Shape, a: Shape, b: Shape, ids: Shape, *rest: Any, **_: Any) -> int:
    """One product down for the gradients of x, a and w, then one for each of x, a and b."""
    of_x, of_a, of_b, of_w = rest[2]
    size, slices = gradient[0] * gradient[1], ids[1] * rest[3]
    wide, narrow = (linear(size, side[2], slices) if side else 0 for side in (gradient, a or x))
    return wide * (of_b + (of_x or of_a or of_w)) + narrow * (of_x + of_a)
