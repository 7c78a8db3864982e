"""Scaling laws against values computed elsewhere with forty digits, and fits against data of known constants."""

import json
import math
from pathlib import Path

import numpy
import pandas
import pytest

from mome.replication.paper.fig2_pretraining_loss.experiment import (
    FORMS,
    LAWS,
    CurveFit,
    Law,
    RecallFit,
    effective_tokens,
    epochs_to_recall,
    fit_curve,
    fit_curves,
    fit_recall,
    pretraining_curve,
    probed_facts,
    recall_interval,
    recall_points,
    share_interval,
)
from mome.replication.paper.fig2_pretraining_loss.figure import pretraining_loss

SHIPPED = ("tiny-llama", "tiny-mistral")
LOSSES = numpy.array([4.0, 2.5, 1.5, 1.0, 0.5, 0.2])


def close(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)


# --- the laws ------------------------------------------------------------------------------------------------------


def test_a_law_adds_its_three_terms():
    """By hand: 1 + 2 / 4^(1/2) + 3 / 16^(1/4) = 1 + 1 + 1.5."""
    law = Law("by hand", 1.0, 2.0, 3.0, 0.5, 0.25)
    assert close(law.loss(4, 16), 3.5)
    assert close(law.loss(math.inf, 16), 2.5) and close(law.loss(4, math.inf), 2.0)
    assert close(law.tokens_to(3.5, 4), 16)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Hoffmann 2022", 2.020301259700113879276632542832942),
        ("Hoffmann 2022, TeX", 2.007910134062757219983511616347612),
        ("Besiroglu 2024", 2.064712811887997009792996961690973),
    ],
)
def test_llama_2_7b_after_two_trillion_tokens(name: str, expected: float):
    """The published constants in decimal arithmetic of forty digits."""
    assert close(LAWS[name].loss(7e9, 2e12), expected)


def test_tokens_to_a_loss():
    assert close(LAWS["Besiroglu 2024"].tokens_to(2.1, 7e9), 620103957821.3099583324923180288466)
    for law in LAWS.values():
        assert law.tokens_to(law.loss(7e9, math.inf), 7e9) == math.inf
        assert law.tokens_to(1.75, 7e9) == math.inf, "the laws bring 7B parameters to the paper's loss after all"


def test_what_repeated_tokens_are_worth():
    """U (1 + 15 (1 - exp(-(epochs - 1) / 15))): after sixteen readings 1 + 15 (1 - 1/e) texts, never over sixteen."""
    assert effective_tokens(2e12, 1) == 2e12
    assert close(effective_tokens(1, 16), 1 + 15 * (1 - 1 / math.e))
    assert close(effective_tokens(1, 100), 15.97959447943678159874716354471617840397)
    assert close(effective_tokens(3, math.inf), 48)
    with pytest.raises(ValueError, match=r"epochs must be at least 1, got 0\.5"):
        effective_tokens(1, 0.5)


# --- the shipped curves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_curve_is_the_one_of_its_recipe(name: str):
    curve = pretraining_curve(name)
    recipe = json.loads((Path(__file__).parents[4] / "data" / "backbones" / name / "recipe.json").read_text())
    assert curve["epoch"].tolist() == list(range(1, recipe["settings"]["epochs"] + 1))
    assert curve["tokens"].iloc[-1] == recipe["tokens"]
    assert abs(curve["seconds"].iloc[-1] / recipe["seconds"] - 1) < 0.05  # the recipe's also hold the probes
    losses, recalled, probed = recall_points(curve)
    assert set(probed) == {170.0} and recalled[-1] == 170 and (recalled == recalled.astype(int)).all()
    assert (numpy.diff(losses) < 0.01).all()


def write_curve(root: Path, text: str) -> None:
    (root / "data" / "backbones" / "mine").mkdir(parents=True)
    (root / "data" / "backbones" / "mine" / "loss.csv").write_text(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epoch,answer_loss,tokens_per_second,tokens,recall\n1,2,3,4,1\n", r"loss\.csv: no column 'held_out_recall'"),
        (
            "epoch,answer_loss,tokens_per_second,tokens,recall,held_out_recall\n2,1,1,1,1,1\n",
            r"the epochs are not 1, 2",
        ),
    ],
)
def test_a_broken_curve_is_named(text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    write_curve(tmp_path, text)
    with pytest.raises(ValueError, match=complaint):
        pretraining_curve("mine")


def test_a_curve_counts_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    header = "epoch,answer_loss,tokens_per_second,tokens,recall,held_out_recall\n"
    write_curve(tmp_path, header + "1,5.0,10,100,,\n2,3.0,20,100,0.5,0.25\n")
    last = pretraining_curve("mine").iloc[-1]
    assert (last["tokens"], last["seconds"], last["loss"]) == (200, 15, 3.0)
    assert (last["recalled"], last["recalled_other"], last["probed"]) == (2, 1, 4)


def test_the_number_of_probed_facts_is_the_smallest_that_fits():
    assert probed_facts([1 / 3, 0.5]) == 6
    assert probed_facts([0.0, 1.0]) == 1
    for shares in ([math.pi / 4], []):
        with pytest.raises(ValueError, match="are not counts of at most 10000 facts"):
            probed_facts(shares)


# --- counting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "of"), [(0, 64), (7, 170), (170, 170)])
def test_the_wilson_interval(count: int, of: int):
    z, share = 1.959963984540054235524594430520551, count / of
    middle, spread = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low, high = share_interval(count, of)
    assert close(high, (middle + spread) / (1 + z * z / of))
    assert abs(low - (middle - spread) / (1 + z * z / of)) < 1e-12


def test_epochs_to_recall_with_what_counting_allows():
    counts = [0.0, None, 90.0, 95.0, 99.0, 100.0]
    curve = pandas.DataFrame({"epoch": range(1, 7), "recalled": counts, "probed": 100})
    # 90 of 100 may still be 0.945 (upper end), 95 may be 0.978; 99 is at least 0.9455, 100 at least 0.963
    assert epochs_to_recall(curve, 0.95) == (4, 4, 6)
    assert epochs_to_recall(curve, 0.5) == (3, 3, 3)
    assert epochs_to_recall(curve.iloc[:3], 0.95) == (None, None, None)


# --- the fits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "constants"), [("power law", (900.0, 0.6, 0.3)), ("exponential", (5.0, 2e-6, 0.4))])
def test_a_fit_finds_the_constants_of_its_form(form: str, constants: tuple[float, float, float]):
    tokens = 2.7e5 * numpy.arange(1, 41)
    losses = FORMS[form](tokens, *constants)
    found = fit_curve(form, tokens, losses)
    assert numpy.allclose(found.constants, constants, rtol=1e-4)
    assert found.error < 1e-6 and numpy.allclose(found.loss(tokens), losses, rtol=1e-5)


def test_fits_see_only_the_first_epochs():
    tokens = 1e5 * numpy.arange(1, 21)
    losses = numpy.where(tokens <= 1e6, FORMS["power law"](tokens, 900.0, 0.6, 0.3), 7.0)
    curve = pandas.DataFrame({"epoch": range(1, 21), "tokens": tokens, "loss": losses})
    assert numpy.allclose(fit_curves(curve, 10)["power law"].constants, (900.0, 0.6, 0.3), rtol=1e-4)


@pytest.mark.parametrize(("form", "points"), [("power law", 3), ("line", 9)])
def test_a_fit_without_enough_points_or_of_no_form_is_refused(form: str, points: int):
    with pytest.raises(ValueError, match=f"{points} points .*{form!r}"):
        fit_curve(form, numpy.arange(1.0, points + 1), numpy.ones(points))


def test_a_recall_fit_finds_its_constants():
    known = RecallFit(1.2, 2.4)
    probed = numpy.full(len(LOSSES), 1e6)
    found = fit_recall(LOSSES, known.share(LOSSES) * probed, probed)
    assert math.isclose(found.half, 1.2, rel_tol=1e-5) and math.isclose(found.steepness, 2.4, rel_tol=1e-5)
    assert close(float(known.share(1.2)), 0.5) and close(float(known.share(2.4)), 1 / (1 + 2**2.4))


def test_a_recall_fit_solves_the_likelihood_equations():
    """At the maximum the residuals sum to zero, and so do those weighted by ln(loss)."""
    recalled, probed = numpy.array([3.0, 10, 31, 42, 58, 64]), numpy.full(6, 64.0)
    residuals = recalled - probed * fit_recall(LOSSES, recalled, probed).share(LOSSES)
    assert abs(residuals.sum()) < 1e-3 and abs((residuals * numpy.log(LOSSES)).sum()) < 1e-3
    for none in (0 * recalled, probed):
        with pytest.raises(ValueError, match="leave nothing to fit"):
            fit_recall(LOSSES, none, probed)


def test_the_interval_of_a_recall_fit_narrows_with_the_facts():
    shares, widths = RecallFit(1.2, 2.4).share(LOSSES), []
    for facts in (64, 6400):
        probed = numpy.full(len(LOSSES), float(facts))
        low, high = recall_interval(LOSSES, numpy.round(shares * probed), probed, 1.75, resamples=60)
        assert low < float(RecallFit(1.2, 2.4).share(1.75)) < high
        widths.append(high - low)
    assert 5 < widths[0] / widths[1] < 20  # about the square root of a hundred


# --- the figure ----------------------------------------------------------------------------------------------------


def test_the_figure_shows_the_papers_value_the_miss_and_the_counts():
    curves = {name: pretraining_curve(name) for name in SHIPPED}
    fits = {
        (name, form): CurveFit(form, (5.0, 1e-7, 0.1), 0.0) for name in SHIPPED for form in ("power law", "exponential")
    }
    tuned = pandas.DataFrame({"epoch": [1, 2], "recalled": [0, 60], "probed": [64, 64]})
    figure = pretraining_loss(
        LAWS, 7e9, [1e12, 2e12], 1.75, curves, fits, dict.fromkeys(SHIPPED, RecallFit(1.2, 2.4)), tuned, 10
    )
    law, curve, epochs, loss = figure.axes
    (dashed,) = [line for line in law.lines if line.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {1.75} and "nats/token" in law.get_ylabel() and "7B" in law.get_title()
    marked = [line.get_ydata()[1] for line in law.lines if line.get_marker() == "o"]
    assert numpy.allclose(marked, [each.loss(7e9, 2e12) for each in LAWS.values()])
    assert "tokens" in curve.get_xlabel() and "share" in epochs.get_ylabel()
    assert [line.get_xdata()[0] for line in epochs.lines if line.get_linestyle() == "--"] == [100]
    assert [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == "--"] == [1.75]
