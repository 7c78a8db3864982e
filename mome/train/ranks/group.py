"""The ranks of a run, joined as torchrun's environment says, and all that they exchange: bytes and JSON, no pickle."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from mome.files.hashing import text_sha256
from mome.train.ranks.pulse import REMEDY, Pulse, RankError

SECONDS = "MOME_RANK_SECONDS"  # the time limit of an exchange; a rank may train a longer group than the others
DEFAULT_SECONDS = 1800.0
FAILED = 2  # exit code, as of all that a user can put right
Result = TypeVar("Result")


class Ranks:
    """This process as `rank` of `size`. Every method is called by all ranks, in the same order.

    `device` is where exchanged tensors must lie: the CPU for gloo, this rank's GPU for nccl. `sent` counts the bytes
    that `exchange` gave to other ranks.
    """

    def __init__(self, rank: int, size: int, device: torch.device, pulse: Pulse) -> None:
        self.rank, self.size, self.device, self.pulse = rank, size, device, pulse
        self.sent = 0

    def exchange(self, what: str, parts: Sequence[Tensor]) -> list[Tensor]:
        """Give `parts[r]` (uint8 [any], on the CPU) to each rank r; returns what each gave to this one, on the CPU.

        Raises:
            RankError: a rank failed, is gone, or did not come within the time limit; `what` says what was waited for.
        """
        sizes = [len(part) for part in parts]
        coming = self._all_to_all(what, torch.tensor(sizes), [1] * self.size, [1] * self.size).tolist()
        self.sent += sum(sizes) - sizes[self.rank] + 8 * (self.size - 1)
        received = self._all_to_all(what, torch.cat(list(parts)), sizes, coming)
        return list(received.split(coming))

    def share(self, what: str, value: Any) -> list[Any]:
        """The JSON `value` of each rank, in their order. Raises RankError as `exchange`."""
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(part.numpy().tobytes()) for part in self.exchange(what, [content] * self.size)]

    def agree(self, values: Mapping[str, Any]) -> None:
        """Refuse to go on unless every rank has the same JSON `values` (name -> value), such as digests.

        Raises:
            RankError: a rank has another value than rank 0; both are named.
        """
        found = self.share("the values that all ranks must have alike", dict(values))
        for rank, theirs in enumerate(found):
            for name, value in found[0].items():
                if theirs[name] != value:
                    raise RankError(
                        f"{name}: rank {rank} has {theirs[name]!r}, rank 0 has {value!r}. All ranks need the same "
                        "files, library versions and kind of hardware."
                    )

    def _all_to_all(self, what: str, values: Tensor, going: list[int], coming: list[int]) -> Tensor:
        received = torch.empty(sum(coming), dtype=values.dtype, device=self.device)
        given = values.to(self.device)
        self._waiting(what, lambda: dist.all_to_all_single(received, given, coming, going))
        return received.cpu()

    def _waiting(self, what: str, collective: Callable[[], Result]) -> Result:
        try:
            self.pulse.note(what)
            return collective()
        except RuntimeError as error:  # what gloo and nccl raise names no rank
            raise RankError(self.pulse.diagnosis(what)) from error


@contextmanager
def joined() -> Iterator[Ranks | None]:
    """This process among the ranks that torchrun started; None without torchrun, and for a single process.

    Rank 0 alone prints. A rank that fails tells the others, and one rank alone tells the user: the rest end silently
    with exit code 2.

    Raises:
        RankError: a rank did not come, or is gone, or torchrun told this one to end.
        ValueError: the time limit in MOME_RANK_SECONDS is no number above 0.
    """
    if not _started_by_torchrun():
        yield None
        return
    ranks = _join(_seconds())
    before = signal.signal(signal.SIGTERM, lambda *_: _told_to_end(ranks))
    try:
        with _quiet(ranks.rank > 0):
            yield ranks
    except Exception as error:
        _tell_once(ranks.pulse, error)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        ranks.pulse.stop()
    dist.destroy_process_group()


def refuse_ranks(what: str) -> None:
    """Raise ValueError if torchrun started several processes, for `what` trains in one."""
    if _started_by_torchrun():
        raise ValueError(f"{what} trains in one process, torchrun started {os.environ['WORLD_SIZE']}: start it without")


def _started_by_torchrun() -> bool:
    """Whether this is one of several processes."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def rank_zero_first(ranks: Ranks | None) -> Iterator[None]:
    """The body runs on rank 0, then on the others, which may find what it kept."""
    if ranks and ranks.rank:
        ranks.share("what rank 0 does first", None)
    yield
    if ranks and not ranks.rank:
        ranks.share("what rank 0 does first", None)


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Without what Python code prints, progress bars and warnings among it: rank 0 prints the same."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _join(seconds: float) -> Ranks:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    limit = timedelta(seconds=seconds)
    try:
        store, *_ = next(rendezvous("env://", timeout=limit))
        backend = "gloo" if device.type == "cpu" else "nccl"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        pulse = Pulse(store, rank, size)
        pulse.start()
    except RuntimeError as error:
        raise RankError(f"rank {rank} waited {seconds:g} s for all {size} ranks to start: {error}. {REMEDY}") from error
    return Ranks(rank, size, device, pulse)


def _seconds() -> float:
    given = os.environ.get(SECONDS, str(DEFAULT_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise ValueError(f"{SECONDS}: must be a number of seconds above 0 and below 1e7, got {given!r}")
    return seconds


def _told_to_end(ranks: Ranks) -> None:
    """torchrun ends the others when one rank has failed: say which, unless that is being found out already."""
    if ranks.pulse.looking:
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # told once is enough
    raise RankError(ranks.pulse.diagnosis("the end of the run"))


def _tell_once(pulse: Pulse, error: Exception) -> None:
    """Let the first rank with this error raise it; end the others here. An error of a gone rank has one teller."""
    text = f"{type(error).__name__}: {error}"
    try:
        if not isinstance(error, RankError):
            pulse.failed(text)
        topic = "gone" if isinstance(error, RankError) else text_sha256(text, 16)
        first = pulse.first_to_tell(topic)
        pulse.first_to_tell("gone")  # now nobody else needs to say that this rank is gone
    except RuntimeError:  # the store is gone with rank 0: every rank tells
        return
    if not first:
        raise SystemExit(FAILED) from error
