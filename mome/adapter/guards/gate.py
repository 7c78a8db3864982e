"""A lock for threads: any number of questions run at the same time, an edit runs alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """A lock between readers and writers: many threads read at a time, or one writes.

    A thread may take a lock again that it holds, and a writer may also read. A thread that waits to write goes before
    readers that come after it. A copied or pickled gate is a new one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: Counter[int] = Counter()  # thread -> how often it holds the read lock
        self._writer: int | None = None
        self._depth = self._waiting = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait until no other thread writes; none does while the context lasts."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._may_read(thread))
            self._readers[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[thread] -= 1
                self._readers += Counter()  # drops threads that are out
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wait until no other thread reads or writes; none does while the context lasts."""
        thread = threading.get_ident()
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._writer in (None, thread) and not {*self._readers} - {thread})
            finally:
                self._waiting -= 1
            self._writer, self._depth = thread, self._depth + 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                self._writer = thread if self._depth else None
                self._changed.notify_all()

    def _may_read(self, thread: int) -> bool:
        if thread in self._readers or self._writer == thread:
            return True  # even where another thread waits to write, which waits for this one
        return self._writer is None and not self._waiting

    def __reduce__(self) -> tuple[type[Gate], tuple[()]]:
        return Gate, ()
