"""State that all adapted modules of a model share: the bank, and the experts of the present call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from typing import Any

from torch import Tensor

from mome.adapter.bank import Bank
from mome.adapter.selection import Selection


class Call(threading.local):
    """What one thread does with the model; these values are those of a thread that does nothing."""

    selection: Selection | None = None  # of the thread's last forward pass
    prompt: Tensor | None = None  # [Q, T] bool, the prompt tokens of a pass whose experts are still to be chosen
    tokens: Tensor | None = None  # [Q, T] int64, the tokens of that pass
    cached = 0  # tokens in the KV cache when the pass started
    running = generating = False
    marked: Tensor | None = None  # [P, T] bool, the tokens of a generation's P prompts by which experts are chosen

    def marks(self, rows: int) -> Tensor | None:
        """`marked` for so many rows: `generate` may repeat each prompt, for beams or several answers."""
        if self.marked is None or rows % len(self.marked):
            return self.marked
        return self.marked.repeat_interleave(rows // len(self.marked), dim=0)


class State:
    """The bank, and the experts of the present call, which other threads do not see.

    `enabled` is for all threads; `switched_off` and `holding` are for the calls inside their context. A thread's `call`
    goes through these states, by the hooks of `mome.adapter.hooks`:

        between passes: not running; `selection` is that of the last pass
          | _begin, a new prompt: `prompt` is set          | _begin, a filled KV cache, or `generating`
          v                                                v
        choosing: running, no selection    -- _choose -->  chosen: running, `selection` is added in each module
                                                           | _end, also after an error
                                                           v
                                                         between passes
    """

    def __init__(self) -> None:
        self.bank: Bank
        self.enabled = True
        self.call = Call()
        # a tuple, as None must differ from "held, without any expert"
        self._held: ContextVar[tuple[Selection | None] | None] = ContextVar("held", default=None)
        self._off: ContextVar[bool] = ContextVar("off", default=False)

    @property
    def working(self) -> bool:
        """Whether experts take part in this call."""
        return self.enabled and not self._off.get()

    @property
    def held(self) -> bool:
        """Whether `holding` decides about the experts of this call."""
        return self._held.get() is not None

    @property
    def selection(self) -> Selection | None:
        """The experts that are held, else those of this thread's last forward pass."""
        held = self._held.get()
        return self.call.selection if held is None else held[0]

    @property
    def chosen(self) -> Selection | None:
        """The experts to be added now; None outside of forward passes, and for the backbone alone."""
        return self.selection if self.working and (self.call.running or self.held) else None

    @contextmanager
    def holding(self, selection: Selection | None) -> Iterator[None]:
        """Let all passes of this call take `selection`."""
        token = self._held.set((selection,))
        try:
            yield
        finally:
            self._held.reset(token)

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The backbone alone, in this call."""
        token = self._off.set(True)
        try:
            yield
        finally:
            self._off.reset(token)

    @contextmanager
    def generating(self, marked: Tensor | None = None) -> Iterator[None]:
        """One generation: its passes without a KV cache keep the experts of the first, which `marked` [Q, T] chooses.

        Without it all tokens of the prompt choose them.
        """
        call = self.call
        before = call.generating, call.selection, call.marked
        call.generating, call.selection, call.marked = True, None, marked
        try:
            yield
        finally:
            call.generating, call.marked = before[0], before[2]
            if call.generating:  # inside another generation, which goes on
                call.selection = before[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"bank": self.bank, "enabled": self.enabled}  # without the calls, which may hang on graphs of gradients

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.bank, self.enabled = state["bank"], state["enabled"]

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        copied = memo[id(self)] = State()
        copied.bank, copied.enabled = deepcopy(self.bank, memo), self.enabled
        return copied
