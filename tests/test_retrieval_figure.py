"""The figure of methods shows every method of the table once in each panel where it belongs."""

import pandas
import pytest
from test_methods_table import made_table

from mome.methods.summary import table_metrics
from mome.methods.workshop import METHODS
from mome.retrieval_figure import MARKS, methods


def test_every_method_has_a_mark_of_its_own():
    assert set(MARKS) == set(METHODS)
    assert len({(colour, mark) for colour, mark, _ in MARKS.values()}) == len({label for *_, label in MARKS.values()})


def test_the_panels_show_the_numbers_of_the_table():
    table = made_table()
    trades = pandas.DataFrame(
        {"method": "index_bm25", "false_alarms": [0.0, 0.1, 1.0], "paraphrase_recall": [0.1, 0.5, 0.9]}
    ).assign(hallucination=[0.0, 0.2, 1.0])
    figure = methods(table_metrics(table, 1_000), table, 1_000, trades, 50)
    trade, curve, latency, size = figure.axes
    assert curve.lines[0].get_xydata().tolist() == [[0.0, 0.1], [0.2, 0.5], [1.0, 0.9]]
    assert [text.get_text() for text in curve.texts] == ["0.1"]
    points = [(float(held[0].get_xdata()[0]), float(held[0].get_ydata()[0])) for held in trade.containers]
    assert sorted(points) == [(0.02, 0.0), (0.02, pytest.approx(0.9))]
    assert [len(axis.containers) for axis in (trade, latency, size)] == [2, 2, 2]
    for axis, expected in ((latency, {2.0}), (size, {50_000.0, 300.0})):
        assert {float(value) for held in axis.containers for value in held[0].get_ydata()} == expected
        assert axis.get_xscale() == axis.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [MARKS["sql"][2], MARKS["mome"][2]]
