"""The message about a rank that is gone names it, what was waited for and the remedy."""

import pytest
from torch.distributed import TCPStore

from mome.train.ranks import pulse as pulses
from mome.train.ranks.pulse import Pulse


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    monkeypatch.setattr(pulses, "BEAT", 0.02)
    monkeypatch.setattr(pulses, "WINDOW", 0.8)
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def pulse(store: TCPStore, rank: int, doing: str, starts: bool = True) -> Pulse:
    made = Pulse(store.clone(), rank, 3)
    if starts:
        made.start()
    made.note(doing)
    return made


def test_a_rank_that_does_not_count_any_more_is_named(store: TCPStore) -> None:
    living = [pulse(store, 0, "the next rows"), pulse(store, 1, "the next rows")]
    pulse(store, 2, "the next rows", starts=False)
    found = living[0].diagnosis("the next rows")
    assert found == f"rank 0 waited for the next rows; rank 2 does not answer any more. {pulses.REMEDY}"
    for one in living:
        one.stop()


def test_a_rank_that_said_why_it_ends_is_quoted(store: TCPStore) -> None:
    ranks = [pulse(store, rank, "the next rows") for rank in range(3)]
    ranks[1].failed("OSError: the disk is full")
    assert "; rank 1 failed (OSError: the disk is full). Start" in ranks[2].diagnosis("the next rows")
    for one in ranks:
        one.stop()


def test_a_living_rank_that_did_not_come_is_named_with_what_it_did_last(store: TCPStore) -> None:
    ranks = [pulse(store, rank, "the next rows") for rank in range(3)]
    for rank in (0, 2):
        ranks[rank].note("the end of the round")
    assert "; rank 1 did not come (its last: the next rows). Start" in ranks[0].diagnosis("the end of the round")
    ranks[1].note("the end of the round")
    assert "; all ranks live, but the connection broke" in ranks[0].diagnosis("the end of the round")
    for one in ranks:
        one.stop()


def test_one_rank_tells(store: TCPStore) -> None:
    ranks = [pulse(store, rank, "x", starts=False) for rank in range(3)]
    assert [one.first_to_tell("gone") for one in ranks] == [True, False, False]
    assert ranks[2].first_to_tell("another")


def test_a_store_that_is_gone_went_with_rank_0(monkeypatch: pytest.MonkeyPatch, store: TCPStore) -> None:
    made = pulse(store, 1, "x", starts=False)

    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("recvValue failed")

    made.store = Gone()
    assert made.diagnosis("x") == f"rank 1 waited for x; rank 0 does not answer any more. {pulses.REMEDY}"
