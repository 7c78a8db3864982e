"""The figure of notebook 00."""

import math

import pytest

from mome.replication.paper.start_here.figure import LOWEST, MOMENTS, one_fact


def test_bars_show_losses_and_shares_at_each_moment():
    losses = {"before": [9.0, 0.5], "taught": [0.0, 1e-3], "taken back": [9.0, 0.5]}
    right = {"before": ([0, 0, 0], [1, 1]), "taught": ([1, 1, 0], [1, 0]), "taken back": ([0, 0, 0], [1, 1])}
    left, shares = one_fact(["R", "ay"], losses, right, 2, "tiny-llama").axes
    heights = [bar.get_height() for bar in left.patches]
    assert heights == [9.0, 0.5, 2 * LOWEST, 1e-3, 9.0, 0.5]
    assert [bar.get_height() for bar in shares.patches] == [0, 0, 1, 1, 0, 0.5, 0, 0, 1]
    assert any(list(line.get_ydata()) == [math.log(2)] * 2 for line in left.lines)
    assert [text.get_text() for text in left.get_legend().get_texts()][1:] == list(MOMENTS)
    assert "(n = 2)" in shares.get_xticklabels()[0].get_text() and "(n = 1)" in shares.get_xticklabels()[1].get_text()


@pytest.mark.parametrize(
    ("taught", "paraphrases", "others", "left", "said"),
    [
        ([1, 1], [1], [1, 1], 9.0, ["learns one fact", "2 of 2 taught", "1 of 1 other", "2 of 2 other", "back, all"]),
        ([1, 0], [1], [1, 1], 9.0, ["does not learn one fact", "1 of 2 taught"]),
        ([1, 1], [0], [0, 1], 9.0, ["learns one fact", "0 of 1 other paraphrases", "1 of 2 other answers"]),
        ([1, 1], [1], [1, 1], 0.1, ["learns one fact", "back, not all losses"]),
    ],
    ids=["as the paper says", "not learned", "other answers moved", "not taken back"],
)
def test_the_title_says_what_came_of_teaching(
    taught: list[float], paraphrases: list[float], others: list[float], left: float, said: list[str]
):
    losses = {"before": [9.0, 0.5], "taught": [0.0, 1e-3], "taken back": [left, 0.5]}
    before = ([0, 0, 0], [1, 1])
    right = {"before": before, "taught": (taught + paraphrases, others), "taken back": before}
    title = " ".join(one_fact(["R", "ay"], losses, right, 2, "a-model").get_suptitle().split())
    assert title.startswith("a-model ") and title.endswith("(1 fact, 1 seed)") and "the paper" in title
    assert all(part in title for part in said), title
