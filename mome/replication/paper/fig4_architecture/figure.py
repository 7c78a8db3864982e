"""The drawing of a live model's architecture, with the way of one question through it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as pyplot
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from mome.replication.notebook.style import BLUE, GREEN, RED, STYLE, finished, headline, seed_count
from mome.replication.paper.fig4_architecture.experiment import Architecture

# Okabe and Ito's palette, thinned where text stands on it
PALE_GREY, PALE_YELLOW, PALE_BLUE, PALE_GREEN, PALE_RED = "#E9E9E9", "#FAE3B4", "#D3E8F6", "#D2EEE4", "#F8DDCE"
WIDTH, HEIGHT, HEAD = 110.0, 84.0, 7.0  # the title stands in the head
LEFT, MIDDLE, RIGHT = 2.0, 17.0, 32.0
PANEL, PANEL_END = 45.0, 108.0
FLOOR, CEILING = 6.8, 70.0
SMALL = 8.5


@dataclass(frozen=True, slots=True)
class Walk:
    """One question's way through the model.

    `words` T tokens, `states` [1, T, D] where the router reads them, `attention` [T], the pooling weights (mean over
    heads), `query` [1, d_k], `score` its similarity to the nearest anchor, `min_score` the rejection threshold. `ids`
    and `weights` [K] of its experts, which won among `candidates` keys; their slices `a` [K, R, d_in] and `b`
    [K, R, d_out] in `module`, what they add there (`delta` [1, T, d_out]), the `logits` [1, T, V] and the `answer`.
    """

    words: Sequence[str]
    states: Tensor
    attention: Tensor
    query: Tensor
    score: float
    min_score: float
    candidates: int
    ids: Tensor
    weights: Tensor
    module: str
    a: Tensor
    b: Tensor
    delta: Tensor
    logits: Tensor
    answer: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the memory does, for the title: a list for each run.

    `recalled` says of each fact whether it was answered rightly (0 or 1), `kept` of each unrelated question whether its
    logits are the backbone's to the bit. `flops` is the adapter's share of the backbone's FLOPs; `seeds` counts seeds.
    """

    recalled: Sequence[Sequence[float]]
    kept: Sequence[Sequence[float]]
    flops: float
    seeds: int


def architecture(found: Architecture, walk: Walk, name: str, outcome: Outcome) -> Figure:
    """The backbone `name` at the left, from tokens to logits; at the right, from below, router, index and experts.

    Sizes, layers and places are those of `found`; bars, points and colours are the numbers of `walk`.
    """
    with pyplot.rc_context({**STYLE, "axes.grid": False}):
        figure = pyplot.figure(figsize=(WIDTH / 10.5, (HEIGHT + HEAD) / 10.5), layout="none")
        canvas = figure.add_axes((0, 0, 1, 1))
        canvas.set(xlim=(0, WIDTH), ylim=(0, HEIGHT + HEAD))
        canvas.axis("off")
        read_at, added_at = _backbone(canvas, found, walk)
        _router(canvas, found, walk, read_at)
        _index(canvas, found, walk)
        _experts(canvas, found, walk, added_at)
        headline(figure, f"{name}: {_finding(found, outcome)}")
    return finished(figure)


def _finding(found: Architecture, outcome: Outcome) -> str:
    return (
        f"{found.top_k} of {found.num_experts:,} experts answer a question (the paper: 32 of 1,000,000); "
        f"{_count(outcome.recalled)} facts are recalled, {_count(outcome.kept)} unrelated questions keep the "
        f"backbone's logits to the bit, at {outcome.flops:.2%} more FLOPs ({seed_count([outcome.seeds])})"
    )


def _count(runs: Sequence[Sequence[float]]) -> str:
    return f"{sum(map(sum, runs)):.0f} of {sum(map(len, runs))}"


def shape(values: Tensor) -> str:
    """Such as "[1, 18, 256]"."""
    return "[" + ", ".join(f"{size:,}" for size in values.shape) + "]"


def _backbone(canvas: Axes, found: Architecture, walk: Walk) -> tuple[float, list[float]]:
    """The left column; returns the height at which the router reads, and those of the adapted layers."""
    canvas.text(LEFT, HEIGHT - 3, "backbone", weight="bold", fontsize=11, va="center")
    size = f"{found.backbone_parameters:,} parameters"
    canvas.text(RIGHT, HEIGHT - 3, size, ha="right", va="center", fontsize=SMALL)
    boxes: list[tuple[str, bool]] = [(f"embedding [{found.vocabulary:,}, {found.hidden:,}]", False)]
    boxes += [_layer(found, *group) for group in found.layer_groups()]
    boxes += [(f"norm, head [{found.hidden:,}, {found.vocabulary:,}]", False)]
    step = (CEILING - FLOOR) / (len(boxes) - 0.4)
    heights = [FLOOR + place * step for place in range(len(boxes))]
    for height, (text, adapted) in zip(heights, boxes, strict=True):
        _arrow(canvas, (MIDDLE, max(FLOOR - 2.4, height - 0.4 * step)), (MIDDLE, height))
        _box(canvas, (LEFT, height, RIGHT - LEFT, 0.6 * step), text, PALE_YELLOW if adapted else PALE_GREY)
    _arrow(canvas, (MIDDLE, CEILING), (MIDDLE, CEILING + 4.5))
    canvas.text(MIDDLE, CEILING + 6.6, f"logits {shape(walk.logits)}, answer:", ha="center", va="bottom")
    canvas.text(MIDDLE, CEILING + 4.8, walk.answer, ha="center", va="bottom", fontsize=SMALL)
    canvas.text(MIDDLE, 2.6, f"the question's {len(walk.words)} tokens", ha="center", va="center")
    first = [group[0] for group in found.layer_groups()].index(found.router_layer) + 1
    added = [height + 0.3 * step for height, (_, adapted) in zip(heights, boxes, strict=True) if adapted]
    return heights[first] - 0.2 * step, added


def _layer(found: Architecture, first: int, last: int, names: tuple[str, ...]) -> tuple[str, bool]:
    title = f"layer {first}" if first == last else f"layers {first} to {last}"
    frozen = "frozen" if all(found.frozen[first : last + 1]) else "takes gradients"
    return f"{title}, {frozen}" + (f"\n+ experts on {', '.join(names)}" if names else ""), bool(names)


def _router(canvas: Axes, found: Architecture, walk: Walk, read_at: float) -> None:
    state = "frozen after phase 1" if found.router_frozen else "being trained"
    _panel(canvas, (2, 27), f"router, {state}", f"{found.router_parameters:,} parameters", PALE_BLUE)
    _elbow(canvas, (MIDDLE, read_at), (PANEL, 14), 39.0)
    canvas.plot(MIDDLE, read_at, "o", color=BLUE, markersize=5)
    canvas.text(RIGHT + 0.6, read_at + 1.4, f"states {shape(walk.states)}", va="center", color=BLUE, fontsize=SMALL)
    bars = canvas.inset_axes((PANEL + 8.5, 8.6, 36, 13.6), transform=canvas.transData)
    bars.bar(range(len(walk.words)), walk.attention.cpu().numpy(), color=BLUE)
    bars.set_xticks(range(len(walk.words)), [repr(word)[1:-1] for word in walk.words], rotation=60)
    bars.set_ylabel(f"pooling attention,\nmean of {found.heads} heads", fontsize=SMALL)
    bars.tick_params(length=2, pad=1, labelsize=SMALL)
    bars.patch.set_alpha(0)
    known = (
        f"ours:\n{found.anchors} anchors, cosine\nto the nearest {walk.score:.2f};\nrejected below {walk.min_score:.2f}"
    )
    canvas.text(PANEL_END - 17, 15.4, known, va="center", fontsize=SMALL, linespacing=1.6)
    _arrow(canvas, (PANEL_END - 8, 27), (PANEL_END - 8, 31))
    canvas.text(PANEL_END - 9, 28.9, f"query {shape(walk.query)}", ha="right", va="center", color=BLUE)


def _index(canvas: Axes, found: Architecture, walk: Walk) -> None:
    kind = f"product keys {found.halves[0]} x {found.halves[1]}" if found.halves else "flat"
    _panel(canvas, (31, 54), f"index, {kind}", f"N = {found.num_experts:,} experts", PALE_GREEN)
    columns = found.halves[1] if found.halves else math.ceil(math.sqrt(found.num_experts))
    plane = canvas.inset_axes((PANEL + 8.5, 35.6, 22, 13.8), transform=canvas.transData)
    ids, weights = walk.ids.cpu().numpy(), walk.weights.cpu().numpy()
    sizes, filled = (14 * weights / weights.mean(), GREEN) if weights.any() else (14, "none")  # hollow: rejected
    plane.scatter(ids % columns, ids // columns, s=sizes, facecolors=filled, edgecolors=GREEN, clip_on=False)
    plane.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, math.ceil(found.num_experts / columns) - 0.5))
    plane.set_xlabel("second half key" if found.halves else "id, last part", fontsize=SMALL, labelpad=1)
    plane.set_ylabel("first half key" if found.halves else "id, first part", fontsize=SMALL, labelpad=2)
    plane.tick_params(length=2, pad=1, labelsize=SMALL)
    compared = f"{walk.candidates:,} of {found.num_experts:,} keys"
    if found.halves:
        compared = (
            f"{sum(found.halves):,} half keys scored,\n{walk.candidates:,} of {found.num_experts:,} sums compared"
        )
    best = ", ".join(f"{number:,}" for number in ids[:2].tolist())
    lines = (
        compared,
        f"K = {len(ids)} ids: {best}, ...",
        f"weights {weights.min():.2f} to {weights.max():.2f}" if weights.any() else "rejected: all weights are 0",
        "chosen once, kept with\nthe KV cache",
    )
    canvas.text(PANEL + 33, 41.5, "\n\n".join(lines), va="center", fontsize=SMALL)
    _arrow(canvas, (PANEL_END - 8, 54), (PANEL_END - 8, 58))
    canvas.text(PANEL_END - 9, 55.9, f"ids, weights {shape(walk.ids[None])}", ha="right", va="center", color=GREEN)


def _experts(canvas: Axes, found: Architecture, walk: Walk, added_at: list[float]) -> None:
    _panel(canvas, (58, 83), "experts, trained in phase 2", f"{found.expert_parameters:,} numbers each", PALE_RED)
    for place, (name, values) in enumerate((("a", walk.a), ("b", walk.b))):
        rows = values.flatten(1).float().cpu().numpy()
        image = canvas.inset_axes((PANEL + 6.5 + 29.5 * place, 68.4, 25, 10.4), transform=canvas.transData)
        limit = float(numpy.quantile(abs(rows), 0.98)) or 1.0
        image.imshow(rows, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        image.set_xlabel(f"{name} {shape(values)}, colours to ±{limit:.2g}", fontsize=SMALL, labelpad=1)
        image.tick_params(length=2, pad=1, labelsize=SMALL)
        if not place:
            image.set_ylabel("chosen expert", fontsize=SMALL, labelpad=2)
    sizes = f"{found.touched_bytes / 2**20:,.1f} of {found.bank_bytes / 2**20:,.1f} MiB"
    bank = f"{found.touched:,} of {found.num_experts:,} experts ever written: {sizes}"
    canvas.text(PANEL + 6.5, 61.4, f"{walk.module}\n{bank}", va="center", fontsize=SMALL, linespacing=1.5)
    for height in added_at:
        _elbow(canvas, (PANEL, 73.6), (RIGHT, height), 42.0, RED)
    added = f"+ $\\Sigma_k\\, w_k b_k (a_k \\cdot x)$  {shape(walk.delta)}"
    canvas.text(43.6, 72.4, added, rotation=90, ha="center", va="top", color=RED, parse_math=True)


def _panel(canvas: Axes, span: tuple[float, float], title: str, note: str, colour: str) -> None:
    low, high = span
    _box(canvas, (PANEL, low, PANEL_END - PANEL, high - low), "", colour)
    canvas.text(PANEL + 1.5, high - 2, title, weight="bold", fontsize=11, va="center")
    canvas.text(PANEL_END - 1.5, high - 2, note, ha="right", va="center")


def _box(canvas: Axes, place: tuple[float, float, float, float], text: str, colour: str) -> None:
    x, y, width, height = place
    style = "round,pad=0,rounding_size=0.8"
    canvas.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor="#666666"))
    canvas.text(x + width / 2, y + height / 2, text, ha="center", va="center", linespacing=1.3)


def _arrow(canvas: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = "black") -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    canvas.annotate("", end, start, arrowprops=style)


def _elbow(canvas: Axes, start: tuple[float, float], end: tuple[float, float], turn: float, colour: str = BLUE) -> None:
    """From `start` along to x = `turn`, up or down there, and along to an arrow's tip at `end`."""
    canvas.plot([start[0], turn, turn], [start[1], start[1], end[1]], color=colour, linewidth=1.4)
    _arrow(canvas, (turn, end[1]), end, colour)
