"""Which rank is gone: each rank counts up a number in a shared store, and says there what it does.

A rank whose collective fails, or that torchrun tells to end, looks at the numbers of the others for some seconds: a
number that stands still is that of a dead or stopped process, on whatever machine it ran.
"""

from __future__ import annotations

import threading
import time
from typing import Any

BEAT = 0.5  # seconds between two counts
WINDOW = 4.0  # seconds in which a living rank counts at least once, also on a busy machine
REMEDY = "Start the same command again: it goes on from the last checkpoint."


class RankError(RuntimeError):
    """A run over several ranks that cannot go on; the message names the rank, what was waited for and the remedy."""


class Pulse:
    """The life signs of `size` ranks, seen by `rank`; `store` is its own client of the store that all ranks reach.

    `note` is called in the main thread only, the counting runs in a thread with a client of its own.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.count = 0  # of collectives that this rank entered
        self.looking = False  # for the rank that is gone
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(store.clone(),), daemon=True)

    def start(self) -> None:
        """Begin to count."""
        self.note("starts")
        self._thread.start()

    def stop(self) -> None:
        """End the counting; the store may be gone by now."""
        self._over.set()
        self._thread.join(WINDOW)

    def note(self, doing: str) -> None:
        """Tell the others which exchange this rank waits for now."""
        self.count += 1
        self.store.set(f"at/{self.rank}", f"{self.count} {doing}")

    def failed(self, reason: str) -> None:
        """Tell the others why this rank ends."""
        self.store.set(f"failed/{self.rank}", reason)

    def first_to_tell(self, topic: str) -> bool:
        """Whether this rank is the one that tells the user about `topic`."""
        return bool(self.store.add(f"told/{topic}", 1) == 1)

    def diagnosis(self, waited_for: str) -> str:
        """Why an exchange failed or did not end: the rank that failed, is gone, or did not come (after `WINDOW` s)."""
        start, self.looking = f"rank {self.rank} waited for {waited_for}", True
        try:
            return f"{start}; {self._found()}. {REMEDY}"
        except RuntimeError:  # torch.distributed.DistError among them: its process kept the store
            return f"{start}; rank 0 does not answer any more. {REMEDY}"

    def _found(self) -> str:
        others = [rank for rank in range(self.size) if rank != self.rank]
        before = {rank: self._read(f"beat/{rank}") for rank in others}
        if found := self._failures(others):
            return found
        time.sleep(WINDOW)
        if found := self._failures(others):
            return found
        still = [rank for rank in others if self._read(f"beat/{rank}") == before[rank]]
        if still:
            return ", ".join(f"rank {rank} does not answer any more" for rank in still)
        return self._behind(others)

    def _failures(self, others: list[int]) -> str:
        """The ranks that said why they end."""
        reasons = {rank: self._read(f"failed/{rank}") for rank in others}
        return ", ".join(f"rank {rank} failed ({reason})" for rank, reason in reasons.items() if reason)

    def _behind(self, others: list[int]) -> str:
        """All live: those that have not come to this rank's exchange."""
        places = {rank: self._read(f"at/{rank}").partition(" ") for rank in others}
        late = [f"rank {rank} did not come (its last: {what})" for rank, (at, _, what) in places.items()
                if int(at or 0) < self.count]  # fmt: skip
        return ", ".join(late) or "all ranks live, but the connection broke, or the run was told to end"

    def _read(self, key: str) -> str:
        return self.store.get(key).decode() if self.store.check([key]) else ""

    def _beat(self, store: Any) -> None:
        beats = 0
        while not self._over.wait(BEAT):
            beats += 1
            try:
                store.set(f"beat/{self.rank}", str(beats))
            except RuntimeError:  # the store's process has ended; this rank's next exchange says so
                return
