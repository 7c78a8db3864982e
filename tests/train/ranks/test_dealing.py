"""Facts are dealt so that no two ranks train the same row in a round, and every fact has its turn."""

import random
from pathlib import Path

from mome.train.ranks.dealing import deal


def test_facts_that_share_nothing_are_dealt_evenly_and_in_order() -> None:
    experts = [[fact] for fact in range(6)]
    assert deal(range(6), experts, 2, 3) == ([[0, 2, 4], [1, 3, 5]], [])
    assert deal(range(6), experts, 2, 2) == ([[0, 2], [1, 3]], [4, 5])
    assert deal([5, 1, 3], experts, 4, 1) == ([[5], [1], [3], []], [])


def test_a_fact_follows_the_rank_that_has_its_rows() -> None:
    experts = [[1, 2], [3, 4], [2, 5], [5, 6]]
    assert deal(range(4), experts, 2, 3) == ([[0, 2, 3], [1]], [])


def test_a_fact_between_two_ranks_or_of_a_full_one_waits() -> None:
    experts = [[1, 2], [3, 4], [2, 3], [1, 9], [7, 8]]
    assert deal(range(5), experts, 2, 1) == ([[0], [1]], [2, 3, 4])
    assert deal(range(5), experts, 2, 2) == ([[0, 3], [1, 4]], [2])
    assert deal([2], experts, 2, 2) == ([[2], []], [])


def test_every_fact_has_its_turn_and_no_row_two_ranks() -> None:
    draws = random.Random(0)
    experts = [draws.sample(range(200), 4) for _ in range(100)]
    waiting, trained = list(range(100)), []
    while waiting:
        groups, waiting = deal(waiting, experts, 4, 8)
        rows = [{row for fact in group for row in experts[fact]} for group in groups]
        assert sum(map(len, rows)) == len(set().union(*rows))
        assert sum(map(len, groups)) >= 1 and max(map(len, groups)) <= 8
        trained += [fact for group in groups for fact in group]
    assert sorted(trained) == list(range(100))


def test_the_page_says_how_even_the_work_is() -> None:
    page = (Path(__file__).parents[3] / "notebooks" / "book" / "many_ranks.md").read_text("utf-8")
    for ranks in (2, 4, 8):
        draws = random.Random(0)
        experts = [[draws.randrange(65_536) for _ in range(32)] for _ in range(1000)]
        waiting, longest = list(range(1000)), []
        while waiting:
            groups, waiting = deal(waiting, experts, ranks, 256)
            longest.append(max(map(len, groups)))
        most = f"{1000 / sum(longest):.2f}"
        assert f"| 65,536 | {ranks} | 1,000 | {len(longest)} | {sum(longest)} | {most} |" in page
