"""Figure 1 of a real model."""

from __future__ import annotations

import pandas
from real_runs import run

from mome.replication.paper.fig1_random_vs_real.figure import paper_curves


def test_the_title_says_whether_random_answers_were_memorized():
    real, random = run("real", [[2.0], [0.01]]), run("random", [[4.0], [2.0], [0.02]])
    figure = paper_curves(pandas.DataFrame([real, random]), 0.05)
    assert "memorizes random answers: below 0.05 nats/token after 3 epochs" in " ".join(figure.get_suptitle().split())
    assert "(1 seed; the paper" in " ".join(figure.get_suptitle().split())
    more = pandas.DataFrame([real, random, random | {"seed": 1}])
    assert "(2 and 1 seeds; the paper" in " ".join(paper_curves(more, 0.05).get_suptitle().split())
    assert figure.axes[0].get_xlim() == (0, 100) and figure.axes[0].get_yscale() == "linear"
    assert figure.axes[1].get_yscale() == "log"
    stuck = run("random", [[4.0], [3.0]])
    assert "does not memorize" in paper_curves(pandas.DataFrame([real, stuck]), 0.05).get_suptitle()
