"""The figure of notebook 00."""

import math

from mome.replication.paper.start_here.figure import LOWEST, MOMENTS, one_fact


def test_bars_show_losses_and_shares_at_each_moment():
    losses = {"before": [9.0, 0.5], "taught": [0.0, 1e-3], "taken back": [9.0, 0.5]}
    right = {"before": ([0, 0, 0], [1, 1]), "taught": ([1, 1, 0], [1, 0]), "taken back": ([0, 0, 0], [1, 1])}
    left, shares = one_fact(["R", "ay"], losses, right, 2).axes
    heights = [bar.get_height() for bar in left.patches]
    assert heights == [9.0, 0.5, 2 * LOWEST, 1e-3, 9.0, 0.5]
    assert [bar.get_height() for bar in shares.patches] == [0, 0, 1, 1, 0, 0.5, 0, 0, 1]
    assert any(list(line.get_ydata()) == [math.log(2)] * 2 for line in left.lines)
    assert [text.get_text() for text in left.get_legend().get_texts()][1:] == list(MOMENTS)
    assert "(n = 2)" in shares.get_xticklabels()[0].get_text() and "(n = 1)" in shares.get_xticklabels()[1].get_text()
