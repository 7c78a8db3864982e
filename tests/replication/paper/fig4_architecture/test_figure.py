"""The drawing shows the model and the walk it is given, and its texts do not run into each other."""

from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tiny_models import remembering

from mome.replication.paper.fig4_architecture.experiment import Architecture, read_architecture
from mome.replication.paper.fig4_architecture.figure import Outcome, Walk, architecture, shape

IDS = torch.tensor([1000, 5, 33, 34, 70, 99, 512, 1])
OUTCOME = Outcome([[1.0, 0.0], [1.0, 1.0]], [[1.0] * 5] * 2, 0.0125, 2)


def made(**changes: Any) -> tuple[Architecture, Walk]:
    found = read_architecture(remembering(layers_to_transform=[2], target_modules=["gate_proj"], **changes))
    generator = torch.Generator().manual_seed(0)
    walk = Walk(
        words=["<s>", " Who", "\n", "$x$"],
        states=torch.zeros(1, 4, 32),
        attention=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        query=torch.zeros(1, 16),
        score=0.987,
        min_score=0.654,
        candidates=20,
        ids=IDS,
        weights=torch.linspace(2, 0.5, 8),
        module="model.layers.2.mlp.gate_proj",
        a=torch.randn(8, 1, 32, generator=generator),
        b=torch.randn(8, 1, 48, generator=generator),
        delta=torch.zeros(1, 4, 48),
        logits=torch.zeros(1, 4, 128),
        answer="4VRFD8UWF3XN6ML19U8NDLG1LMK82ILY",
    )
    return found, walk


@pytest.fixture(scope="module")
def drawn() -> tuple[Architecture, Walk, Figure]:
    found, walk = made()
    return found, walk, architecture(found, walk, "a-model", OUTCOME)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def arrows(figure: Figure) -> int:
    return len([text for text in figure.axes[0].texts if not text.get_text()])


def test_sizes_places_and_shapes_are_written(drawn: tuple[Architecture, Walk, Figure]) -> None:
    found, walk, figure = drawn
    written = texts(figure)
    assert "layer 1, frozen\n" in written + "\n" and "layer 2, frozen\n+ experts on gate_proj" in written
    for values in (walk.states, walk.query, walk.delta, walk.logits):
        assert shape(values) in written
    for number in (found.backbone_parameters, found.router_parameters, found.expert_parameters, found.num_experts):
        assert f"{number:,}" in written
    assert walk.answer in written and "0.99" in written and "0.65" in written and "20 of 1,024 sums" in written
    assert f"{found.touched:,} of 1,024 experts ever written" in written


def test_bars_points_and_colours_are_the_walks(drawn: tuple[Architecture, Walk, Figure]) -> None:
    _, walk, figure = drawn
    bars, plane, first, second = figure.axes[0].child_axes
    assert numpy.allclose([bar.get_height() for bar in bars.patches], walk.attention)
    assert [label.get_text() for label in bars.get_xticklabels()] == ["<s>", " Who", "\\n", "$x$"]
    assert not any(label.get_parse_math() for label in bars.get_xticklabels())
    assert plane.collections[0].get_offsets().tolist() == [[number % 32, number // 32] for number in IDS.tolist()]
    assert numpy.array_equal(first.images[0].get_array(), walk.a[:, 0])
    assert numpy.array_equal(second.images[0].get_array(), walk.b[:, 0])


def test_only_adapted_layers_get_an_arrow_from_the_experts(drawn: tuple[Architecture, Walk, Figure]) -> None:
    found, walk, figure = drawn
    both = replace(found, adapted={**found.adapted, "model.layers.1.mlp.up_proj": (32, 48)})
    assert arrows(architecture(both, walk, "a-model", OUTCOME)) == arrows(figure) + 1


@pytest.mark.parametrize("index", ["product_key", "flat"])
def test_no_two_texts_overlap(index: str) -> None:
    figure = architecture(*made(index=index), "owner/a-model-with-a-long-name", OUTCOME)
    renderer = FigureCanvasAgg(figure).get_renderer()
    canvas = figure.axes[0]
    boxes = [text.get_window_extent(renderer) for text in canvas.texts if text.get_text()]
    boxes += [axes.get_tightbbox(renderer) for axes in canvas.child_axes]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    assert not [(one, other) for place, one in enumerate(boxes) for other in boxes[:place] if one.overlaps(other)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_the_title_counts_what_the_memory_does(drawn: tuple[Architecture, Walk, Figure]) -> None:
    found, walk, figure = drawn
    title = " ".join(figure.get_suptitle().split())
    for part in ("a-model: 8 of 1,024 experts", "32 of 1,000,000", "3 of 4 facts are", "10 of 10 unrelated", "1.25%"):
        assert part in title
    assert title.endswith("(2 seeds)")
    nothing = Outcome([[0.0] * 4], [[0.0] * 5], 1.5, 1)
    title = " ".join(architecture(found, walk, "a-model", nothing).get_suptitle().split())
    assert "0 of 4 facts are recalled, 0 of 5 unrelated" in title and "150.00% more FLOPs (1 seed)" in title


def test_a_rejected_question_has_hollow_experts_and_says_so() -> None:
    found, walk = made()
    figure = architecture(found, replace(walk, weights=torch.zeros(8)), "a-model", OUTCOME)
    assert "rejected: all weights are 0" in texts(figure) and "rejected: all" not in texts(
        architecture(found, walk, "a", OUTCOME)
    )
    (points,) = [axes.collections[0] for axes in figure.axes[0].child_axes if axes.collections]
    assert len(points.get_offsets()) == 8 and not len(points.get_facecolors())
