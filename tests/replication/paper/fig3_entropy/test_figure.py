"""The figure of next-token distributions shows what it is given, and its title says which parts of figure 3 hold."""

import math

import numpy
import pandas
import pytest
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric
from mome.replication.paper.fig3_entropy.experiment import Panel
from mome.replication.paper.fig3_entropy.figure import ENTROPIES, browse, next_tokens, one_panel, slider
from mome.replication.paper.fig3_entropy.metrics import CERTAIN, CONCENTRATED, EVEN

PARTS = (EVEN, CONCENTRATED, CERTAIN)


def panels() -> list[Panel]:
    return [
        Panel(title, "Who? Emma", ["a", "\N{OPEN BOX}b"], [0.75, 0.25], right, 1.4, 0.6, 30, 40)
        for title, right in (("pretrained", 1), ("tuned, epoch 3", 0))
    ]


def drawn(holds: dict[str, bool]) -> Figure:
    """20 facts of two relations at three moments, in one run."""
    generator = numpy.random.default_rng(0)
    facts = pandas.DataFrame({"epoch": numpy.repeat([-1, 0, 3], 20), "loss": generator.uniform(0, 9, 60)})
    facts = facts.assign(entropy=facts["loss"] / 2, total=facts["loss"] + 0.1, sampled=1 - numpy.exp(-facts["loss"]))
    labels = {"backbone": "a-model", "seed": 0, "fact": [*range(20)] * 3, "relation": ["capital", "river"] * 30}
    ends = {f"{name}_{end}": 0.1 for name in ("within", "between") for end in ("low", "high")}
    alike = pandas.DataFrame(
        [{"epoch": e, "loss": 2.0 - e / 4, "within": 0.1, "between": 0.1, **ends} for e in (-1, 0, 3)]
    )
    values = {**dict.fromkeys(ENTROPIES, 1.25), "max_entropy": math.log(2048), "largest_zero": 0.875}
    metrics = {name: Metric(value=value, unit="nats", n=20) for name, value in values.items()}
    return next_tokens(panels(), facts.assign(**labels), alike, 2048, metrics, holds)


def test_the_figure_shows_panels_the_even_level_and_the_law():
    figure = drawn(dict.fromkeys(PARTS, True))
    first, second, entropies, wrong, likeness = figure.axes
    assert "loss 1.4, entropy 0.6 nats" in first.get_title(loc="left") and "75% of 40" in first.get_title(loc="left")
    assert [bar.get_hatch() for bar in first.patches] == [None, "//"]
    assert [bar.get_hatch() for bar in second.patches] == ["//", None]
    dashed = [line.get_ydata()[0] for line in entropies.lines if line.get_linestyle() == "--"]
    assert dashed == [math.log(2048)] and "nats" in entropies.get_xlabel()
    (law,) = [line for line in wrong.lines if line.get_label() == "1 - exp(-loss)"]
    assert numpy.allclose(law.get_ydata(), 1 - numpy.exp(-law.get_xdata()))
    assert "cosine" in likeness.get_ylabel()


@pytest.mark.parametrize("held", [[], *([part] for part in PARTS), PARTS], ids=lambda held: ", ".join(held) or "none")
def test_the_title_says_which_parts_hold(held: list[str]):
    title = " ".join(drawn({part: part in held for part in PARTS}).get_suptitle().split())
    for part in PARTS:
        assert part in title and (f"not {part} at" in title) == (part not in held)
    assert "1.25 nats before pretraining" in title and "ln V = 7.62" in title and "0.8750" in title
    assert title.startswith("a-model: ") and title.endswith(
        "the paper draws all three (20 facts, relations: 2; 1 seed)"
    )


def test_the_slider_goes_through_the_panels():
    widget = slider(panels(), 2048)
    (choice,) = [child for child in widget.children if hasattr(child, "options")]
    assert [title for title, _ in choice.options] == ["pretrained", "tuned, epoch 3"]
    assert widget.auto_display and widget.result.axes[0].get_title(loc="left").startswith("pretrained")
    choice.index = 1
    assert widget.result.axes[0].get_title(loc="left").startswith("tuned, epoch 3")


def test_one_panel_is_a_figure_of_its_own():
    figure = one_panel(panels()[0], 2048)
    assert len(figure.axes) == 1 and figure.axes[0].get_yscale() == "log"


def test_without_a_kernel_there_is_a_figure_and_no_slider():
    figure = browse(panels(), 2048)
    assert isinstance(figure, Figure) and figure.axes[0].get_title(loc="left").startswith("pretrained")
