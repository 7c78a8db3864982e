"""Bounds on the loss below which a next-token network cannot be wrong: the threshold that the paper does not print.

Setting (notebook 10 has the proofs): n facts (`facts`), each answered by L tokens (`length`) out of V (`vocabulary`).
The loss of a token is -ln of the probability the network gives it after the question and the answer's tokens before it
(nats); an answer's loss S is the sum over its tokens; the mean loss is that over all nL tokens (nats/token). A token is
right where no other is as probable, so that a tie counts as wrong; an answer is right where all its tokens are.

Source: derived here, as the paper (abstract, section 5) only says that there is a threshold. Two bounds are classic:
Fano's inequality, and that 2 ln 2 times the error is at most the entropy (Hellman and Raviv 1970).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy
from scipy.optimize import brentq
from scipy.special import logsumexp

LN2 = math.log(2)
ROUNDING = 1e-12

# --- one token, one answer -----------------------------------------------------------------------------------------


def decided_by(loss: float, vocabulary: int) -> Literal["right", "wrong", "open"]:
    """What a token's loss (nats) says of it: right below ln 2, wrong from ln V on; between, either can be.

    Raises:
        ValueError: the loss is negative or NaN, or the vocabulary has fewer than two tokens.
    """
    _check_loss("loss", loss)
    _check_count("vocabulary", vocabulary, 2)
    if loss < LN2:
        return "right"
    return "wrong" if loss >= math.log(vocabulary) else "open"


def recall_probability(losses: Sequence[float]) -> float:
    """The probability exp(-S) that sampling at temperature 1 gives an answer whose tokens have these losses (nats)."""
    for loss in losses:
        _check_loss("losses", loss)
    return math.exp(-math.fsum(losses))


# --- the mean over n facts -----------------------------------------------------------------------------------------


def safe_mean_loss(facts: int, length: int) -> float:
    """ln 2 / (nL) nats/token: below it no fact is wrong, whatever the network; just above it one can be."""
    return LN2 / _tokens(facts, length)


def hopeless_mean_loss(vocabulary: int) -> float:
    """ln V nats/token: from it on some token is wrong, whatever the network; just below it all can be right."""
    _check_count("vocabulary", vocabulary, 2)
    return math.log(vocabulary)


def most_wrong_facts(mean_loss: float, facts: int, length: int) -> int:
    """The largest number of facts that can be wrong: the whole part of nL times the mean loss over ln 2, at most n."""
    _check_loss("mean_loss", mean_loss)
    return int(min(facts, _tokens(facts, length) * mean_loss / LN2 * (1 + ROUNDING)))


def sampled_wrong_bounds(mean_answer_loss: float, facts: int) -> tuple[float, float]:
    """Least and most share of wrong answers under sampling at temperature 1, for the mean answer loss s = mean of S.

    (1 - exp(-ns)) / n where one fact carries the whole loss, 1 - exp(-s) where all carry the same.
    """
    _check_loss("mean_answer_loss", mean_answer_loss)
    _check_count("facts", facts, 1)
    return -math.expm1(-facts * mean_answer_loss) / facts, -math.expm1(-mean_answer_loss)


def extreme_log_probabilities(
    answers: numpy.ndarray, vocabulary: int, mean_loss: float, *, wrong: bool
) -> numpy.ndarray:
    """A network at the edge: log-probabilities [n, L, V] f64 with just this mean loss (nats/token) on `answers` [n, L].

    Without `wrong` every token is right, at any mean loss below ln V. With it the first token of the first fact, and no
    other, is wrong, at any mean loss above ln 2 / (nL). Between the two the mean loss decides nothing.

    Raises:
        ValueError: no network has this mean loss and that outcome.
    """
    tokens = _tokens(*answers.shape)
    _check_loss("mean_loss", mean_loss)
    lowest, highest = (LN2 / tokens, math.inf) if wrong else (0.0, hopeless_mean_loss(vocabulary))
    if not lowest < mean_loss < highest:
        raise ValueError(f"mean_loss {mean_loss}: must lie between {lowest} and {highest}, both excluded")
    losses = numpy.full(answers.shape, mean_loss)
    if wrong:
        total = tokens * mean_loss
        losses[:] = min((total - LN2) / 2, 0.1) / max(tokens - 1, 1)
        losses[0, 0] = total - losses.ravel()[1:].sum()
    found = numpy.repeat(numpy.log(-numpy.expm1(-losses) / (vocabulary - 1))[..., None], vocabulary, axis=-1)
    numpy.put_along_axis(found, answers[..., None], -losses[..., None], axis=-1)
    if wrong:  # one other token takes the rest
        rival, first = (answers[0, 0] + 1) % vocabulary, found[0, 0]
        first[[token for token in range(vocabulary) if token not in (answers[0, 0], rival)]] = -numpy.inf
        first[rival] = math.log(-math.expm1(-losses[0, 0]))
    return found


# --- the simple network: facts that share a context ----------------------------------------------------------------


def answer_entropy(cells: Sequence[Hashable], answers: Sequence[Hashable]) -> float:
    """H(answer | cell) in nats: the least mean answer loss of a network that tells only the facts' `cells` apart."""
    groups = _groups(cells, answers)
    return math.fsum(sum(group.values()) / len(cells) * _entropy(group) for group in groups)


def least_wrong_facts(cells: Sequence[Hashable], answers: Sequence[Hashable]) -> int:
    """How many facts such a network must have wrong: in each cell all but those with its most frequent answer."""
    return len(cells) - sum(max(group.values()) for group in _groups(cells, answers))


def collision_mean_loss(facts: int, length: int) -> float:
    """2 ln 2 / (nL) nats/token: the least loss with two answers in one cell; after training, 0 or at least this."""
    return 2 * safe_mean_loss(facts, length)


def most_entropy(wrong: float, answers: int) -> float:
    """The most H(answer | cell) (nats) where the share `wrong` is forced; Fano's bound for K `answers`, at most V^L."""
    _check_share("wrong", wrong)
    _check_count("answers", answers, 2)
    binary = sum(-share * math.log(share) for share in (wrong, 1 - wrong) if share > 0)
    return binary + wrong * math.log(answers - 1)


def forced_share_bounds(entropy: float, answers: int) -> tuple[float, float]:
    """Least and most share of facts that must be wrong, one answer a cell, where H(answer | cell) is `entropy` (nats).

    `answers`: how many answers there can be, K. Raises ValueError for an entropy above ln K.
    """
    _check_loss("entropy", entropy)
    _check_count("answers", answers, 2)
    most = 1 - 1 / answers
    if entropy > math.log(answers) * (1 + ROUNDING):
        raise ValueError(f"entropy {entropy}: {answers} answers have at most {math.log(answers)} nats")
    high = min(entropy / (2 * LN2), -math.expm1(-entropy), most)
    if entropy >= most_entropy(most, answers):
        return most, high
    return float(brentq(lambda wrong: most_entropy(wrong, answers) - entropy, 0, most, xtol=1e-15)), high


def most_wrong_converged(entropy: float) -> float:
    """The most share of facts that greedy decoding has wrong in a network trained to the answer loss `entropy` (nats).

    entropy / (2 ln 2), ties broken either way. Greedy decoding picks the likeliest token, which need not start the
    likeliest answer, so more facts can be wrong than must be (`forced_share_bounds`).
    """
    _check_loss("entropy", entropy)
    return min(1.0, entropy / (2 * LN2))


def circle_mean_loss(facts: int, gain: float) -> float:
    """Loss (nats/token) of the network of two hidden units that holds n facts of one token as n points on a circle.

    Logit of answer j for fact i: gain times cos(2 pi (i - j) / n). All facts are right at any gain above 0.
    """
    _check_count("facts", facts, 2)
    return float(logsumexp(gain * (numpy.cos(2 * numpy.pi * numpy.arange(facts) / facts) - 1)))


# --- what a mean over a large text hides ---------------------------------------------------------------------------


def shift_of_mean(answer_loss: float, tokens: float) -> float:
    """How far one answer's loss (nats, the sum over its tokens) moves a mean over `tokens` tokens (nats/token)."""
    _check_loss("answer_loss", answer_loss)
    _check_count("tokens", tokens, 1)
    return answer_loss / tokens


def tokens_to_notice(shift: float, deviation: float, errors: float = 1.96) -> float:
    """Independent tokens to measure a shift of the mean (nats/token) at `errors` standard errors.

    `deviation`: standard deviation of a token's loss (nats). From errors * deviation / sqrt(tokens) = shift, above 0.
    """
    for name, value in {"shift": shift, "deviation": deviation, "errors": errors}.items():
        if not value > 0:
            raise ValueError(f"{name} {value}: must be above 0")
    return (errors * deviation / shift) ** 2


def _groups(cells: Sequence[Hashable], answers: Sequence[Hashable]) -> list[Counter[Hashable]]:
    """How often each answer occurs in each cell."""
    if len(cells) != len(answers) or not cells:
        raise ValueError(f"{len(cells)} cells, {len(answers)} answers: one of each is needed for every fact")
    groups: dict[Hashable, Counter[Hashable]] = {}
    for cell, answer in zip(cells, answers, strict=True):
        groups.setdefault(cell, Counter())[answer] += 1
    return list(groups.values())


def _entropy(counts: Counter[Hashable]) -> float:
    total = sum(counts.values())
    return math.fsum(count / total * math.log(total / count) for count in counts.values())


def _tokens(facts: int, length: int) -> int:
    _check_count("facts", facts, 1)
    _check_count("length", length, 1)
    return facts * length


def _check_count(name: str, value: float, least: int) -> None:
    if not value >= least:
        raise ValueError(f"{name} {value}: must be at least {least}")


def _check_loss(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} {value}: must not be negative")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} {value}: must be a share, at least 0 and below 1")
