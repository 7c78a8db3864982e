"""Joining needs torchrun's environment; ranks that differ, or do not come in time, are named."""

import pytest
from rank_children import finish, start_ranks
from rank_threads import ThreadRanks, together

from mome.train.ranks.group import joined, rank_zero_first, refuse_ranks
from mome.train.ranks.pulse import RankError

LATE = """\
import time
from mome.train.ranks.group import joined
with joined() as ranks:
    ranks.share("the start", None)
    print("rank", ranks.rank)
    if ranks.rank == 1:
        time.sleep(60)
    ranks.share("the next rows", None)
"""
WRONG = """\
from mome.train.ranks.group import joined
with joined() as ranks:
    if ranks.rank == 1:
        raise OSError("the disk is full")
    ranks.share("the next rows", None)
"""


@pytest.mark.parametrize("environment", [{}, {"RANK": "0", "WORLD_SIZE": "1"}, {"WORLD_SIZE": "2"}])
def test_without_torchrun_and_for_one_process_there_are_no_ranks(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with joined() as ranks, rank_zero_first(ranks):
        assert ranks is None
    refuse_ranks("--method lora")


def test_what_cannot_be_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--method lora trains in one process, torchrun started 2: start it without"):
        refuse_ranks("--method lora")
    for value in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("MOME_RANK_SECONDS", value)
        with pytest.raises(ValueError, match="MOME_RANK_SECONDS: must be a number of seconds above 0"), joined():
            pass


def test_ranks_share_json_and_must_agree() -> None:
    found, _ = together(3, lambda ranks: ranks.share("x", {"rank": ranks.rank, "text": "é"}))
    assert found == [[{"rank": rank, "text": "é"} for rank in range(3)]] * 3

    def part(ranks: ThreadRanks) -> str:
        ranks.agree({"anchors": "a", "router": 1.5})
        with pytest.raises(RankError) as refused:
            ranks.agree({"anchors": "b" if ranks.rank == 2 else "a", "router": 1.5})
        return str(refused.value)

    texts, _ = together(3, part)
    assert len(set(texts)) == 1 and texts[0].startswith("anchors: rank 2 has 'b', rank 0 has 'a'. All ranks need")


def test_rank_zero_is_first() -> None:
    order: list[int] = []

    def part(ranks: ThreadRanks) -> None:
        with rank_zero_first(ranks):
            order.append(ranks.rank)

    together(3, part)
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


def test_a_rank_that_does_not_come_in_time_is_named(warm_python: list[str]) -> None:
    done = finish(start_ranks(2, [*warm_python, "-c", LATE], MOME_RANK_SECONDS="5"), first=0)
    assert done[0].code == 1 and done[0].output == "rank 0\n"
    assert (
        "RankError: rank 0 waited for the next rows; rank 1 did not come (its last: the start). Start" in done[0].errors
    )


def test_an_error_of_one_rank_is_told_once(warm_python: list[str]) -> None:
    done = finish(start_ranks(2, [*warm_python, "-c", WRONG]))
    assert [child.code for child in done] == [2, 1]
    assert done[0].errors == "" and "OSError: the disk is full" in done[1].errors
