"""The gate: readers run side by side, a writer alone, and no thread waits for itself."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mome.adapter.guards.gate import Gate

LONGEST = 30  # seconds


def test_readers_are_in_at_the_same_time_and_a_writer_alone() -> None:
    gate, both = Gate(), threading.Barrier(2)
    inside, most = 0, 0

    def read() -> None:
        with gate.reading():
            both.wait(LONGEST)

    def write() -> None:
        nonlocal inside, most
        for _ in range(200):
            with gate.writing():
                inside += 1
                most = max(most, inside)
                inside -= 1

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(read), pool.submit(read), *(pool.submit(write) for _ in range(4))]:
            each.result(LONGEST)
    assert most == 1


def test_a_writer_waits_for_readers_and_goes_before_the_next_ones() -> None:
    gate, order = Gate(), list[str]()

    def write() -> None:
        with gate.writing():
            order.append("write")

    def read() -> None:
        with gate.reading():
            order.append("read")

    with ThreadPoolExecutor(2) as pool:
        with gate.reading():
            writer = pool.submit(write)
            while not gate._waiting:
                pass
            reader = pool.submit(read)
            with gate.reading():  # who is in gets in again, although a writer waits
                order.append("again")
            assert not writer.done() and not reader.done()
        for each in (writer, reader):
            each.result(LONGEST)
    assert order == ["again", "write", "read"]


def test_who_writes_may_read_and_write_and_an_error_opens_the_gate() -> None:
    gate = Gate()
    with pytest.raises(KeyError), gate.writing(), gate.reading(), gate.writing():
        raise KeyError
    with pytest.raises(KeyError), gate.reading(), gate.reading():
        raise KeyError
    with ThreadPoolExecutor(1) as pool:

        def write() -> bool:
            with gate.writing():
                return True

        assert pool.submit(write).result(LONGEST)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda gate: pickle.loads(pickle.dumps(gate))])
def test_a_copy_is_open(copied) -> None:
    gate = Gate()
    with gate.writing(), ThreadPoolExecutor(1) as pool:

        def read() -> bool:
            with copied(gate).reading():
                return True

        assert pool.submit(read).result(LONGEST)
