"""Texts of facts, names of backbones and of recipes are drawn as they are, whatever stands in them."""

import ast
import io
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text
from tiny_models import remembering

from mome.replication.notebook.style import STYLE, finished, legible
from mome.replication.paper.fig1_random_vs_real.figure import loss_curves
from mome.replication.paper.fig3_entropy.experiment import Panel
from mome.replication.paper.fig3_entropy.figure import one_panel
from mome.replication.paper.fig4_architecture.experiment import read_architecture
from mome.replication.paper.fig4_architecture.figure import Outcome, Walk, architecture
from mome.replication.paper.fig5_mome_convergence.figure import convergence
from mome.replication.paper.start_here.figure import one_fact
from mome.replication.paper.tab1_regularization.figure import regularization

ROOT = Path(__file__).resolve().parents[3]
AS_THEY_ARE = [
    "From $3 to $4, $x_{$ and $\\frac{1$",
    "$$",
    "\\$1 \\textbf{a_b^c} %&#~{}",
    "<b>&amp;</b> [red]x[/]",
    "two\nlines\n",
    "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u0301",
    "名前は何 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\ue000\uffff\U0010ffff\u2028\u00ad",
    "",
]
ESCAPED = {"\ud83d": "\\ud83d", "a\x00b\x1b[31m\r\x85": "a\\x00b\\x1b[31m\\r\\x85", "\ufeffx\t$": "\\ufeffx\\t$"}
LONG = ["word " * 500, "a\n" * 200]
WRITTEN = {**{text: text for text in (*AS_THEY_ARE, *LONG)}, **ESCAPED}


def panel(text: str) -> Figure:
    return one_panel(Panel(text, text, [text, "b", text], numpy.array([0.5, 0.3, 0.2]), 1, 1.0, 1.0, 1, 2), 100)


def fact(text: str) -> Figure:
    moments = ("before", "taught", "taken back")
    return one_fact(
        [text, "b"], {name: [1.0, 0.1] for name in moments}, {name: ([1, 0], [1]) for name in moments}, 1, text
    )


def curves(text: str) -> Figure:
    rows = [
        {"backbone": text, "dataset": text, "answers": "real", "seed": 0, "epoch": 1, "loss": 1.0},
        {"backbone": text, "dataset": text, "answers": "real", "seed": 0, "epoch": 2, "loss": 0.1},
    ]
    return loss_curves(pandas.DataFrame(rows), 0.05)


def sweep(text: str) -> Figure:
    row = {"backbone": text, "seed": 0, "kind": "rank", "value": 1.0, "general_accuracy": 0.5}
    before = pandas.DataFrame({"general_accuracy": [0.9]})
    return regularization(before, before, pandas.DataFrame([row, {**row, "value": 2.0}]), ["general_accuracy"])


def recipes(text: str) -> Figure:
    rows = [
        {"backbone": text, "seed": 0, "answers": answers, "method": method, "epoch": 1, "loss": 1.0}
        for answers in ("real", "random")
        for method in ("mome", "lora")
    ]
    shares = {"recall": 1.0, "general_accuracy": 0.5}
    kept = {"lora": shares, "mome": shares}
    return convergence(pandas.DataFrame(rows), pandas.DataFrame([{"recipe": text, **shares}]), kept, 0.05, 8, 8)


def drawing(text: str) -> Figure:
    walk = Walk(
        words=[text, "b"],
        states=torch.zeros(1, 2, 32),
        attention=torch.tensor([0.4, 0.6]),
        query=torch.zeros(1, 16),
        score=0.9,
        min_score=0.6,
        candidates=20,
        ids=torch.arange(8),
        weights=torch.linspace(2, 0.5, 8),
        module=text,
        a=torch.ones(8, 1, 32),
        b=torch.ones(8, 1, 48),
        delta=torch.zeros(1, 2, 48),
        logits=torch.zeros(1, 2, 128),
        answer=text,
    )
    return architecture(read_architecture(remembering()), walk, text, Outcome([[1.0]], [[1.0]], 0.01, 1))


# a table holds no half character
CASES = [(draw, text) for draw in (panel, fact) for text in WRITTEN]
CASES += [(draw, text) for draw in (curves, sweep, recipes) for text in (*AS_THEY_ARE[:3], "\ufeffx\t$")]
CASES += [(drawing, text) for text in (*AS_THEY_ARE[:3], *ESCAPED)]


def saved(figure: Figure, kind: str = "png") -> list[str]:
    """The figure's texts once it is drawn."""
    figure.savefig(io.BytesIO(), format=kind, dpi=25)
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:constrained_layout not applied", "ignore:Matplotlib currently")
@pytest.mark.parametrize(("draw", "text"), CASES, ids=lambda case: ascii(getattr(case, "__name__", case)[:20]))
def test_a_text_of_the_data_is_drawn_as_it_is_or_escaped(draw: Callable[[str], Figure], text: str):
    figure = draw(text)
    found = saved(figure)
    if draw is not fact or "\n" not in text:  # there a line feed is the answer's end, and is named so
        assert any(WRITTEN[text] in written or repr(text)[1:-1] in written for written in found)
    shown = [one for one in figure.findobj(Text) if text and one.get_text() == WRITTEN[text]]
    assert not any(one.get_parse_math() for one in shown)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_the_other_formats_draw_them_too(kind: str):
    for text in (*AS_THEY_ARE, *ESCAPED):
        assert saved(panel(text), kind)


def test_what_is_maths_stays_maths():
    figure = drawing("$a$")
    sums = [text for text in figure.findobj(Text) if "Sigma" in text.get_text()]
    assert len(sums) == 1 and sums[0].get_parse_math()
    figure = panel("$a$")
    saved(figure)
    powers = [label for label in figure.axes[0].get_yticklabels() if "10^{" in label.get_text()]
    assert powers and all(label.get_parse_math() for label in powers)


def test_the_style_alone_keeps_dollar_signs_from_becoming_maths():
    """Else the tests above would pass for another reason."""
    with pytest.raises(ValueError, match="frac"), pyplot.rc_context({**STYLE, "text.parse_math": True}):
        figure, axis = pyplot.subplots()
        axis.set_title("$\\frac{1$")
        saved(finished(figure))


def test_only_control_characters_and_half_characters_are_escaped():
    assert {text: legible(text) for text in WRITTEN} == WRITTEN


def test_every_function_that_makes_a_figure_draws_in_the_style_and_finishes_it():
    for path in sorted((ROOT / "mome").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        makers = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and returns_figure(node)]
        for maker in makers:
            ends = [ast.unparse(node.value) for node in ast.walk(maker) if isinstance(node, ast.Return) and node.value]
            assert ends == ["finished(figure)"], f"{path.name}: {maker.name}"
            assert "STYLE" in ast.unparse(maker), f"{path.name}: {maker.name}"
        named = {name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in map(str, names(node))}
        draws = "matplotlib.pyplot" in named and path.name != "style.py"
        assert not draws or makers, f"{path.name} draws, and has no function whose result is a Figure"


def returns_figure(node: ast.FunctionDef) -> bool:
    made = node.returns is not None and "Figure" in ast.unparse(node.returns)
    return made and node.name != "finished"


def names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]
