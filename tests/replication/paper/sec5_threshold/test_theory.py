"""The bounds of theory.py: closed forms against values worked out apart, and every bound against networks at random."""

import itertools
import math
from decimal import Decimal

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.replication.paper.sec5_threshold import theory
from mome.replication.paper.sec5_threshold.simple_network import contexts_of

LN2, LN3 = 0.693147180559945309, 1.098612288668109691
close = pytest.approx
few = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(2, 7))


def random_network(n: int, length: int, vocabulary: int, seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Losses [n, L] and whether each token is right, of whole logits that tie often, are even or very sure."""
    generator = numpy.random.default_rng(seed)
    logits = generator.integers(-3, 4, (n, length, vocabulary)) * generator.choice([0.0, 0.5, 5.0])
    answers = generator.integers(vocabulary, size=(n, length))
    logits[generator.random((n, length)) < generator.choice([0.0, 0.9])] += 40 * numpy.eye(vocabulary)[0]
    return scored(logits, answers)


def scored(logits: numpy.ndarray, answers: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Losses in nats, and whether a token's logit is the only greatest."""
    own = numpy.take_along_axis(logits, answers[..., None], axis=-1)
    top = logits.max(axis=-1, keepdims=True)
    losses = numpy.log(numpy.exp(logits - top).sum(axis=-1)) + (top - own)[..., 0]
    return losses, (logits >= own).sum(axis=-1) == 1


# --- closed forms --------------------------------------------------------------------------------------------------


def test_thresholds_of_the_mean():
    assert theory.safe_mean_loss(24, 34) == close(float(Decimal(2).ln() / 816), rel=1e-12)
    assert theory.collision_mean_loss(12, 3) == close(0.0385081766977747394, abs=1e-15)
    assert theory.hopeless_mean_loss(2048) == close(11 * LN2, rel=1e-12)
    assert theory.safe_mean_loss(1, 1) == theory.hopeless_mean_loss(2)  # nothing is left open


def test_wrong_facts_are_counted_to_the_last():
    assert theory.most_wrong_facts(0.01, 24, 34) == 11  # 8.16 / 0.693 = 11.77
    for wrong in range(25):
        assert theory.most_wrong_facts(wrong * theory.safe_mean_loss(24, 34), 24, 34) == wrong
    assert theory.most_wrong_facts(math.inf, 24, 34) == 24


def test_sampling():
    assert theory.recall_probability([0.5, 0.25]) == close(0.472366552741014707, abs=1e-12)
    assert theory.sampled_wrong_bounds(0.5, 3) == close((0.258956613283856726, 0.393469340287366576), abs=1e-12)
    assert theory.sampled_wrong_bounds(0, 3) == (0, 0)


def test_entropy_of_answers_in_cells():
    cells, answers = [0, 0, 1, 1, 1], ["a", "b", "c", "c", "d"]
    assert theory.answer_entropy(cells, answers) == close(0.6 * LN3, abs=1e-12)
    assert theory.least_wrong_facts(cells, answers) == 2
    assert theory.answer_entropy([0, 1], ["a", "b"]) == theory.least_wrong_facts([0, 1], ["a", "b"]) == 0


def test_entropy_and_error():
    assert theory.most_entropy(0.5, 3) == close(1.5 * LN2, abs=1e-12)
    assert theory.most_entropy(2 / 3, 3) == close(LN3, abs=1e-12)
    assert theory.forced_share_bounds(LN2, 2) == close((0.5, 0.5), abs=1e-9)
    assert theory.forced_share_bounds(1.5 * LN2, 3) == close((0.5, 0.646446609406726238), abs=1e-9)
    assert theory.forced_share_bounds(0, 9) == (0, 0)
    assert theory.most_wrong_converged(LN2 / 2) == close(0.25, abs=1e-12)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0])
def test_two_hidden_units_hold_any_number_of_facts(gain):
    assert theory.circle_mean_loss(2, gain) == close(math.log1p(math.exp(-2 * gain)), abs=1e-12)
    assert theory.circle_mean_loss(4, gain) == close(2 * math.log1p(math.exp(-gain)), abs=1e-12)
    angles = 2 * numpy.pi * numpy.arange(13) / 13
    hidden = numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)
    losses, right = scored(gain * hidden @ hidden.T, numpy.arange(13))
    assert right.all() and losses == close(theory.circle_mean_loss(13, gain), abs=1e-9)


def test_one_fact_in_a_large_mean():
    assert theory.shift_of_mean(10, 15e12) == close(6.66666666666666667e-13, rel=1e-12)
    assert theory.tokens_to_notice(0.01, 2, errors=2) == close(160_000, rel=1e-12)
    losses = numpy.full(1000, 1.75)
    shifted = losses.copy()
    shifted[3] += 10
    assert shifted.mean() - losses.mean() == close(theory.shift_of_mean(10, 1000), abs=1e-12)


# --- every bound against networks at random ------------------------------------------------------------------------


@given(sizes, seeds)
@few
def test_the_loss_of_a_token_decides_below_ln_2_and_from_ln_v_on(size, seed):
    losses, right = random_network(*size, seed)
    for loss, is_right in zip(losses.ravel(), right.ravel(), strict=True):
        said = theory.decided_by(loss, size[2])
        border = min(abs(loss - LN2), abs(loss - math.log(size[2]))) < 1e-12  # a tie, up to rounding
        assert border or said == "open" or (said == "right") == is_right


@given(st.integers(3, 9), st.floats(1e-6, 1 - 1e-6))
@few
def test_between_ln_2_and_ln_v_a_token_can_be_both(vocabulary, place):
    loss = LN2 + place * (math.log(vocabulary) - LN2)
    assert theory.decided_by(loss, vocabulary) == "open"
    answers = numpy.zeros((1, 1), dtype=int)
    for wrong in (False, True):
        logs = theory.extreme_log_probabilities(answers, vocabulary, loss, wrong=wrong)
        assert scored(logs, answers)[1].all() != wrong


@given(sizes, seeds)
@few
def test_the_mean_bounds_the_wrong_facts(size, seed):
    n, length, vocabulary = size
    losses, right = random_network(*size, seed)
    wrong = int((~right).any(axis=1).sum())
    assert wrong <= theory.most_wrong_facts(losses.mean() * (1 + 1e-12), n, length)
    if losses.mean() < theory.safe_mean_loss(n, length) * (1 - 1e-12):
        assert wrong == 0
    if losses.mean() >= theory.hopeless_mean_loss(vocabulary) * (1 + 1e-12):
        assert wrong > 0


@given(sizes, st.floats(1e-9, 1 - 1e-9), st.booleans(), seeds)
@few
def test_between_its_bounds_the_mean_decides_nothing(size, place, wrong, seed):
    n, length, vocabulary = size
    low, high = theory.safe_mean_loss(n, length), theory.hopeless_mean_loss(vocabulary)
    loss = low * (high / low) ** place
    if not low < loss < high:
        return  # one fact of one token out of two
    answers = numpy.random.default_rng(seed).integers(vocabulary, size=(n, length))
    logs = theory.extreme_log_probabilities(answers, vocabulary, loss, wrong=wrong)
    assert logs.shape == size and numpy.exp(logs).sum(axis=2) == close(1, abs=1e-9)
    losses, right = scored(logs, answers)
    assert losses.mean() == close(loss, rel=1e-9)
    assert (~right).any(axis=1).sum() == int(wrong)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=12))
@few
def test_the_mean_bounds_sampling(sums):
    wrong = 1 - numpy.mean([theory.recall_probability([total / 2, total / 2]) for total in sums])
    low, high = theory.sampled_wrong_bounds(float(numpy.mean(sums)), len(sums))
    assert low - 1e-12 <= wrong <= high + 1e-12
    one = [sum(sums), *[0] * (len(sums) - 1)]
    assert 1 - numpy.mean(numpy.exp(numpy.negative(one))) == close(low, abs=1e-12)


@given(st.integers(1, 3), st.integers(2, 4), seeds)
@few
def test_an_answer_is_sampled_with_the_probability_of_its_loss(length, vocabulary, seed):
    """Every text of the network is walked: the probabilities of all are exp(-S), and sum to one."""
    generator = numpy.random.default_rng(seed)
    steps = [generator.dirichlet(numpy.ones(vocabulary), size=vocabulary**place) for place in range(length)]
    total = 0.0
    for text in itertools.product(range(vocabulary), repeat=length):
        chances, prefix = [], 0
        for place, token in enumerate(text):
            chances.append(steps[place][prefix, token])
            prefix = prefix * vocabulary + token
        given_text = theory.recall_probability([max(0.0, -math.log(chance)) for chance in chances])
        assert given_text == close(math.prod(chances), rel=1e-9)
        total += given_text
    assert total == close(1, abs=1e-9)


cells_and_answers = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=n, max_size=n),
    )
)


@given(cells_and_answers, seeds)
@few
def test_no_network_beats_the_entropy_of_what_it_cannot_tell_apart(facts, seed):
    cells, answers = facts[0], numpy.array(facts[1])
    contexts, spelled = contexts_of(cells, answers), [tuple(answer) for answer in facts[1]]
    logits = numpy.random.default_rng(seed).normal(0, 4, (contexts.max() + 1, 3))[contexts]
    losses, right = scored(logits, answers)
    assert losses.mean() >= theory.answer_entropy(cells, spelled) / 2 - 1e-12
    assert (~right).any(axis=1).sum() >= theory.least_wrong_facts(cells, spelled)


@given(cells_and_answers)
@few
def test_a_network_trained_to_its_end_has_a_sharp_threshold(facts):
    """The best probabilities are the shares of the tokens in each context; the lowest of tied tokens is chosen."""
    cells, answers = facts[0], numpy.array(facts[1])
    n, spelled = len(cells), [tuple(answer) for answer in facts[1]]
    contexts = contexts_of(cells, answers)
    counts = numpy.zeros((contexts.max() + 1, 3))
    numpy.add.at(counts, (contexts, answers), 1)
    shares = (counts / counts.sum(axis=1, keepdims=True))[contexts]
    mean_loss = -numpy.log(numpy.take_along_axis(shares, answers[..., None], axis=2)).mean()
    wrong = (shares.argmax(axis=2) != answers).any(axis=1).mean()
    entropy = theory.answer_entropy(cells, spelled)
    assert mean_loss == close(entropy / 2, abs=1e-12)
    assert (wrong > 0) == (mean_loss >= theory.collision_mean_loss(n, 2) * (1 - 1e-12))
    forced = theory.least_wrong_facts(cells, spelled) / n
    assert forced - 1e-12 <= wrong <= theory.most_wrong_converged(entropy) + 1e-12
    low, high = theory.forced_share_bounds(entropy, 9)
    assert low - 1e-9 <= forced <= high + 1e-9
    assert entropy <= theory.most_entropy(forced, 9) + 1e-12


@given(st.integers(2, 8), st.integers(1, 4), seeds)
@few
def test_entropy_lies_between_its_bounds_for_any_shares(answers, cells, seed):
    generator = numpy.random.default_rng(seed)
    shares = generator.dirichlet(numpy.full(answers, generator.choice([0.1, 1.0, 10.0])), size=cells) + 1e-300
    weights = generator.dirichlet(numpy.ones(cells))
    error = float(weights @ (1 - shares.max(axis=1)))
    entropy = float(weights @ -(shares * numpy.log(shares)).sum(axis=1))
    assert entropy <= theory.most_entropy(error, answers) + 1e-9
    low, high = theory.forced_share_bounds(min(entropy, math.log(answers)), answers)
    assert low - 1e-7 <= error <= high + 1e-7


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.decided_by(math.nan, 5), "loss nan: must not be negative"),
        (lambda: theory.decided_by(0.1, 1), "vocabulary 1: must be at least 2"),
        (lambda: theory.safe_mean_loss(0, 3), "facts 0: must be at least 1"),
        (lambda: theory.answer_entropy([0], []), "1 cells, 0 answers: one of each"),
        (lambda: theory.forced_share_bounds(2.0, 3), "entropy 2.0: 3 answers have at most 1.09"),
        (lambda: theory.most_entropy(1.0, 3), "wrong 1.0: must be a share"),
        (lambda: theory.tokens_to_notice(0.0, 1.0), "shift 0.0: must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("loss", "wrong"), [(math.log(4), False), (LN2 / 6 * 0.999, True)])
def test_an_extreme_that_no_network_has_is_refused(loss, wrong):
    with pytest.raises(ValueError, match="must lie between"):
        theory.extreme_log_probabilities(numpy.zeros((2, 3), dtype=int), 4, loss, wrong=wrong)
