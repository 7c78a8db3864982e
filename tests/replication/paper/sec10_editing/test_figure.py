"""The figure of editing says how many seeds, edits, answers and tokens are behind its numbers."""

import pytest
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.sec10_editing.figure import editing

BARS = {"reliability": 0.99, "locality": 0.995}


def made_metrics(method: str, seeds: int, kept: int) -> dict[str, Metric]:
    """Of edits made alone (8 a seed) and 2,000 in turn; `kept` answers were right before, 30 tokens are forced."""
    found = {}
    for size, edits in ((1, 8), (2_000, 2_000)):
        for measure, count in (("reliability", edits), ("generality", edits), ("locality", kept)):
            found[f"edit_{measure}_{size}_{method}"] = metric([[1.0] * count] * seeds, "share")
        if method != "rag":
            found[f"edit_teacher_forced_{size}_{method}"] = metric([[1.0] * 30] * seeds, "share")
    return found | {f"edit_seconds_{method}": metric([[0.5]] * seeds, "s")}


def ticks(figure: Figure, place: int) -> list[str]:
    return [label.get_text() for label in figure.axes[place].get_xticklabels()]


@pytest.fixture
def figure() -> Figure:
    return editing(made_metrics("mome", 3, 400) | made_metrics("rag", 1, 119), [1, 2_000], BARS, "a model")


def heading(figure: Figure) -> str:
    return figure.legends[0].get_title().get_text().strip()


def test_the_heading_names_the_seeds_of_each_method(figure: Figure):
    assert heading(figure) == "MoME: 3 seeds\nRAG update: 1 seed\n(n: over all seeds)"
    alike = editing(made_metrics("mome", 1, 400) | made_metrics("rag", 1, 119), [1, 2_000], BARS, "a model")
    assert heading(alike) == "all methods: 1 seed\n(n: over all seeds)"


def test_the_ticks_name_the_edits_and_the_answers_that_were_asked(figure: Figure):
    assert ticks(figure, 0) == ["1\nn = 8\nto 24", "2,000\nn = 2,000\nto 6,000"]
    assert ticks(figure, 1) == [
        "reliability\nn = 2,000\nto 6,000",
        "generality\nn = 2,000\nto 6,000",
        "locality\nn = 119\nto 1,200",
    ]


def test_the_legend_of_teacher_forcing_counts_tokens_and_answers(figure: Figure):
    legend = figure.axes[2].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "teacher forcing\n(n = 90 | 90 tokens)",
        "free generation\n(n = 8 to 24 | 2,000 to 6,000 answers)",
    ]


def finding(figure: Figure) -> str:
    return " ".join(figure.get_suptitle().split())


def test_the_title_says_who_reaches_the_bars(figure: Figure):
    assert finding(figure).startswith(
        "a model: after 2,000 edits in turn MoME and RAG update keep at least 99% of them and at least 99.5%"
    )
    worse = made_metrics("mome", 3, 400) | {"edit_reliability_2000_mome": metric([[1.0] * 98 + [0.0] * 2] * 3, "share")}
    told = finding(editing(worse, [1, 2_000], BARS, "a model"))
    assert "no method keeps" in told and "MoME 98% / 100% / 100% (3 seeds)" in told


def test_a_few_edits_reach_no_bar():
    few = {name.replace("2000", "5"): found for name, found in made_metrics("mome", 1, 11).items()}
    told = finding(editing(few, [1, 5], BARS, "a model"))
    assert told.startswith(
        "a model: after 5 edits in turn (too few to tell whether 99% hold; the paper: edited precisely)"
    )
    assert "MoME 100% / 100% / 100% (1 seed)" in told
