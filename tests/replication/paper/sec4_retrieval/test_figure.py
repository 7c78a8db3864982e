"""The figure of methods shows every method of the table once in each panel where it belongs."""

import pandas
import pytest
from matplotlib.figure import Figure
from method_tables import made_table

from mome.replication.paper.sec4_retrieval.figure import MARKS, methods
from mome.replication.paper.sec4_retrieval.metrics import table_metrics
from mome.replication.paper.sec4_retrieval.workshop import METHODS


def test_every_method_has_a_mark_of_its_own():
    assert set(MARKS) == set(METHODS)
    assert len({(colour, mark) for colour, mark, _ in MARKS.values()}) == len({label for *_, label in MARKS.values()})


def made_trades() -> pandas.DataFrame:
    trades = pandas.DataFrame({"false_alarms": [0.0, 0.1, 1.0], "paraphrase_recall": [0.1, 0.5, 0.9]})
    return trades.assign(method="index_bm25", hallucination=[0.0, 0.2, 1.0], asked_n=50, absent_n=48, seed=0)


def test_the_panels_show_the_numbers_of_the_table():
    table = made_table()
    figure = methods(table_metrics(table, 1_000), table, 1_000, made_trades(), 50)
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


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def test_the_titles_name_facts_seeds_and_questions():
    table = made_table()
    trade, thresholds, latency, size = titles(methods(table_metrics(table, 1_000), table, 1_000, made_trades(), 50))
    assert trade == "all methods, 1,000 facts (bars: 95%)\n2 seeds, n = 200 held + 200 absent facts asked"
    assert thresholds.endswith("other thresholds, 50 facts\n1 seed, n = 50 held + 48 absent facts asked")
    assert latency == size == "mean over 2 seeds (bars: range)"


def test_the_legend_names_what_rests_on_other_seeds_questions_or_facts():
    table = made_table()
    single = table[table["seed"] == 0]
    others = [
        single[single["method"] == "mome"].assign(method="index_bm25"),
        single[single["method"] == "mome"].assign(method="prompt", asked_n=20, absent_n=50),
        *(
            single[(single["method"] == "mome") & (single["facts"] == 100)].assign(method=name)
            for name in ("lora", "full")
        ),
    ]
    table = pandas.concat([table, *others])
    figure = methods(table_metrics(table, 1_000), table, 1_000, made_trades(), 50)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{MARKS['prompt'][2]}\n(1 seed, n = 20 held + 50 absent)",
        f"{MARKS['index_bm25'][2]}\n(1 seed, n = 100 held + 100 absent)",
        MARKS["sql"][2],
        "LoRA\n(100 facts only, 1 seed)",
        "full fine-tuning\n(100 facts only, 1 seed)",
        "MoME",
    ]
    trade, _, latency, size = titles(figure)
    assert "\n2 seeds, n = 200 held + 200 absent" in trade
    assert latency == size == "mean over 1 to 2 seeds (bars: range)"


def test_equal_numbers_whose_mean_is_a_rounding_beside_them_are_drawn():
    table = made_table()
    table = pandas.concat([table.assign(seed=seed, latency_p50_ms=0.1) for seed in range(3)])
    for method in ("mome", "sql"):  # else this test would show nothing
        assert table.loc[table["method"] == method, "latency_p50_ms"].iloc[:3].mean() > 0.1
    drawn = methods(table_metrics(table, 1_000), table, 1_000, made_trades(), 50).axes[2]
    assert {round(float(value), 12) for held in drawn.containers for value in held[0].get_ydata()} == {0.1}
