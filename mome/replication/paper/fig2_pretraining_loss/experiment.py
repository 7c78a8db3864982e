"""Scaling laws of the pretraining loss, and how the shipped backbones' own curves compare with them.

The laws are about text that is read once: L(N, D) in nats/token of a model of N parameters after D different tokens.
The curves of the shipped backbones are about a small text read many times; they are in data/backbones/*/loss.csv.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy
import pandas
from scipy import optimize, special, stats

from mome.files.environment import repository_root

Number = TypeVar("Number", float, numpy.ndarray)

COLUMNS = ("epoch", "answer_loss", "tokens_per_second", "tokens", "recall", "held_out_recall")
MOST_PROBED = 10_000
# Muennighoff et al., "Scaling data-constrained language models" (arXiv 2305.16264): R*, repetitions of a text
REPETITION_DECAY = 15.0


@dataclass(frozen=True, slots=True)
class Law:
    """L(N, D) = floor + model / N^alpha + data / D^beta in nats/token (Hoffmann et al., arXiv 2203.15556)."""

    source: str
    floor: float
    model: float
    data: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: Number) -> Number:
        """Loss (nats/token) of a model of `parameters` after `tokens` different tokens; infinite ones are allowed."""
        return self.floor + self.model / parameters**self.alpha + self.data / tokens**self.beta

    def tokens_to(self, loss: float, parameters: float) -> float:
        """Different tokens after which a model of `parameters` has `loss` (nats/token); infinite if it never has."""
        left = loss - self.loss(parameters, math.inf)
        return (self.data / left) ** (1 / self.beta) if left > 0 else math.inf


# The rounded exponents are those of the paper's text; its TeX source has two more digits, which Besiroglu et al. (arXiv
# 2404.10102) found to matter. They fitted the same form again to the points of the paper's plots.
LAWS = {
    "Hoffmann 2022": Law("arXiv 2203.15556, as printed", 1.69, 406.4, 410.7, 0.34, 0.28),
    "Hoffmann 2022, TeX": Law("arXiv 2203.15556, TeX source", 1.6934, 406.4, 410.7, 0.3392, 0.2849),
    "Besiroglu 2024": Law("arXiv 2404.10102", 1.8172, 482.01, 2085.43, 0.3478, 0.3658),
}


def effective_tokens(unique: float, epochs: float, decay: float = REPETITION_DECAY) -> float:
    """How many different tokens `epochs` readings of `unique` tokens are worth (arXiv 2305.16264).

    U + U R* (1 - exp(-(epochs - 1) / R*)); the law's correction for models larger than their data is left out.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    return unique * (1 + decay * -math.expm1(-(epochs - 1) / decay))


def pretraining_curve(name: str) -> pandas.DataFrame:
    """The pretraining of the shipped backbone `name`, one row an epoch.

    Columns: epoch; tokens and seconds, both since the start; loss (nats/answer token, mean over the epoch); recalled
    and recalled_other, facts of `probed` answered word for word as trained and in a paraphrase (missing if not probed).

    Raises:
        FileNotFoundError: there is no such backbone.
        ValueError: the file lacks a column or is not in the order of its epochs; the message names it.
    """
    path = repository_root() / "data" / "backbones" / name / "loss.csv"
    table = pandas.read_csv(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing or list(table["epoch"]) != list(range(1, len(table) + 1)):
        raise ValueError(f"{path}: {f'no column {missing[0]!r}' if missing else 'the epochs are not 1, 2, 3 ...'}")
    probed = probed_facts([*table["recall"].dropna(), *table["held_out_recall"].dropna()])
    return pandas.DataFrame(
        {
            "epoch": table["epoch"],
            "tokens": table["tokens"].cumsum(),
            "seconds": (table["tokens"] / table["tokens_per_second"]).cumsum(),
            "loss": table["answer_loss"],
            "recalled": (table["recall"] * probed).round(),
            "recalled_other": (table["held_out_recall"] * probed).round(),
            "probed": probed,
        }
    )


def probed_facts(shares: Sequence[float]) -> int:
    """The smallest number of facts of which all `shares` are whole counts.

    Raises:
        ValueError: no shares, or none of up to `MOST_PROBED` facts fits.
    """
    found = numpy.asarray(shares, dtype=float)
    for count in range(1, MOST_PROBED + 1) if len(found) else ():
        if numpy.abs(found * count - numpy.round(found * count)).max() < 1e-9 * count:
            return count
    raise ValueError(f"{len(found)} shares are not counts of at most {MOST_PROBED} facts")


def share_interval(count: int, of: int) -> tuple[float, float]:
    """95% Wilson interval of a share of `count` out of `of`."""
    found = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def epochs_to_recall(curve: pandas.DataFrame, share: float) -> tuple[int | None, int | None, int | None]:
    """First epoch by which `share` of the probed facts is recalled, and the earliest and latest that counting allows.

    The earliest is the first whose Wilson interval reaches `share`, the latest the first whose interval lies above it;
    None where no probed epoch does. `curve` has epoch, recalled, probed.
    """
    rows = curve.dropna(subset="recalled")
    limits = [share_interval(int(row.recalled), int(row.probed)) for row in rows.itertuples()]
    reached = (
        rows["recalled"] >= share * rows["probed"],
        [high >= share for _, high in limits],
        [low >= share for low, _ in limits],
    )
    first, earliest, latest = (
        next((int(e) for e, yes in zip(rows["epoch"], r, strict=True) if yes), None) for r in reached
    )
    return first, earliest, latest


@dataclass(frozen=True, slots=True)
class CurveFit:
    """A curve of three constants fitted to losses; `error` is the root mean square of ln(fitted / measured)."""

    form: str
    constants: tuple[float, float, float]
    error: float

    def loss(self, tokens: numpy.ndarray) -> numpy.ndarray:
        """Fitted loss (nats/token) after `tokens`."""
        return FORMS[self.form](tokens, *self.constants)


FORMS: dict[str, Callable[..., numpy.ndarray]] = {
    # Hestness et al. (arXiv 1712.00409): error = scale * size^-exponent + floor, there of the size of the training set
    "power law": lambda tokens, scale, rate, floor: scale * tokens**-rate + floor,
    "exponential": lambda tokens, scale, rate, floor: scale * numpy.exp(-rate * tokens) + floor,
}


def fit_curves(curve: pandas.DataFrame, epochs: int) -> dict[str, CurveFit]:
    """Each of `FORMS` fitted to the first `epochs` of a `pretraining_curve`."""
    first = curve[curve["epoch"] <= epochs]
    return {form: fit_curve(form, first["tokens"].to_numpy(float), first["loss"].to_numpy(float)) for form in FORMS}


def fit_curve(form: str, tokens: numpy.ndarray, losses: numpy.ndarray) -> CurveFit:
    """Least squares in ln(loss) of a "power law" or "exponential" curve: scale, rate and floor, none below zero.

    Raises:
        ValueError: fewer than four points, or another form.
    """
    if form not in FORMS or len(tokens) < 4:
        raise ValueError(f"fit_curve: {len(tokens)} points (at least 4), form {form!r} (one of {', '.join(FORMS)})")
    unit, start = float(tokens[0]), (float(losses[0]), 0.5 if form == "power law" else 0.1, 0.5 * float(losses.min()))

    def off(constants: numpy.ndarray) -> numpy.ndarray:
        return numpy.log(numpy.maximum(FORMS[form](tokens / unit, *constants), 1e-12) / losses)

    found = optimize.least_squares(off, start, bounds=(0, numpy.inf), x_scale=numpy.maximum(start, 1e-3))
    scale, rate, floor = map(float, found.x)
    constants = (scale * unit**rate, rate, floor) if form == "power law" else (scale, rate / unit, floor)
    return CurveFit(form, constants, float(numpy.sqrt(numpy.mean(found.fun**2))))


@dataclass(frozen=True, slots=True)
class RecallFit:
    """Share recalled = 1 / (1 + (loss / half)^steepness); half of the facts are recalled at `half` nats/token."""

    half: float
    steepness: float

    def share(self, losses: numpy.ndarray | float) -> numpy.ndarray:
        """Fitted share of facts recalled at `losses` (nats/token)."""
        return special.expit(-self.steepness * numpy.log(numpy.asarray(losses) / self.half))


def fit_recall(losses: numpy.ndarray, recalled: numpy.ndarray, probed: numpy.ndarray) -> RecallFit:
    """Maximum likelihood of the counts `recalled` of `probed`, taken as binomial, at `losses` (nats/token).

    Raises:
        ValueError: all counts are none, or all are all: there is nothing to fit.
    """
    if not 0 < recalled.sum() < probed.sum():
        raise ValueError(f"fit_recall: {int(recalled.sum())} of {int(probed.sum())} recalled leave nothing to fit")
    logs = numpy.log(losses)

    def surprise(constants: numpy.ndarray) -> float:
        slopes = math.exp(constants[1]) * (logs - constants[0])
        return float((recalled * numpy.logaddexp(0, slopes) + (probed - recalled) * numpy.logaddexp(0, -slopes)).sum())

    found = optimize.minimize(
        surprise,
        (float(logs.mean()), 0.0),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 4_000},
    )
    return RecallFit(math.exp(found.x[0]), math.exp(found.x[1]))


def recall_points(curve: pandas.DataFrame) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Loss (nats/token), facts recalled and facts probed at the probed epochs of a `pretraining_curve` (floats)."""
    rows = curve.dropna(subset="recalled")
    return rows["loss"].to_numpy(float), rows["recalled"].to_numpy(float), rows["probed"].to_numpy(float)


def recall_interval(
    losses: numpy.ndarray,
    recalled: numpy.ndarray,
    probed: numpy.ndarray,
    at: float,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """95% interval of the fitted share at the loss `at` (parametric bootstrap: counts are drawn from the fit).

    The same facts are asked at every point, so the counts are not independent and the interval is too narrow.
    """
    shares = fit_recall(losses, recalled, probed).share(losses)
    generator = numpy.random.default_rng(seed)
    drawn = (generator.binomial(probed.astype(int), shares) for _ in range(resamples))
    found = [float(fit_recall(losses, counts, probed).share(at)) for counts in drawn]
    low, high = numpy.quantile(found, [0.025, 0.975])
    return float(low), float(high)
