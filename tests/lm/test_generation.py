"""Measures against naive ones: decoding without a cache, losses and quizzes by hand, intervals of closed form."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy
import pytest
import torch
from learned import Learned
from scipy import stats

from mome.facts.fact import Fact
from mome.lm import generation as evaluation
from mome.lm.encoding import encode_question
from mome.lm.generation import exact, greedy_answers, hallucinated
from mome.lm.loading import Backbone
from mome.lm.losses import fact_losses, text_loss
from mome.lm.quiz import QuizItem, make_quiz, quiz_correct
from mome.lm.statistics import Interval, interval

QUESTIONS = ("Who?", "What is the capital of the country Peru in the south?", "", "When was Emma published?")


def naive_answer(model: Any, tokenizer: Any, question: str, longest: int) -> str:
    """Argmax of one unpadded row, token by token, everything computed anew each time."""
    ids = tokenizer(f"Q: {question}\nA:")["input_ids"]
    written: list[int] = []
    while len(written) < longest:
        token = int(model(input_ids=torch.tensor([ids + written]), use_cache=False).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
    return tokenizer.decode(written, skip_special_tokens=True).strip()


def naive_losses(model: Any, tokenizer: Any, question: str, answer: str) -> tuple[numpy.ndarray, int]:
    """Loss of every token but the first of one unpadded row in double precision, and the tokens of the answer."""
    row = encode_question(tokenizer, question, answer)
    chances = copy.deepcopy(model).double()(input_ids=torch.tensor([row.ids])).logits[0].double().softmax(dim=1)
    losses = [-torch.log(chances[place, token]).item() for place, token in enumerate(row.ids[1:])]
    return numpy.array(losses), row.answer_tokens


@pytest.mark.usefixtures("full_precision")
def test_greedy_answers_are_those_of_a_naive_loop(random_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    expected = [naive_answer(model, tokenizer, question, 12) for question in QUESTIONS]
    assert len(set(expected)) > 1
    assert greedy_answers(model, tokenizer, QUESTIONS, 12) == expected
    monkeypatch.setattr(evaluation, "BATCH_ROWS", 1)
    assert greedy_answers(model, tokenizer, QUESTIONS, 12) == expected


@pytest.mark.usefixtures("full_precision")
def test_greedy_answers_end_where_the_model_ends_them(
    learned: Learned, random_backbone: Backbone, facts: list[Fact]
) -> None:
    questions = [fact.question for fact in facts]
    expected = [naive_answer(learned.model, random_backbone.tokenizer, question, 40) for question in questions]
    assert expected == [fact.answer for fact in facts]
    assert greedy_answers(learned.model, random_backbone.tokenizer, questions) == expected


@pytest.mark.usefixtures("full_precision")
def test_greedy_answers_do_not_follow_the_models_own_habits(backbone: Backbone) -> None:
    model, tokenizer = backbone.model, backbone.tokenizer
    expected = greedy_answers(model, tokenizer, QUESTIONS, 12)
    config = model.generation_config
    config.do_sample, config.temperature, config.repetition_penalty, config.max_length = True, 2.0, 5.0, 3
    assert greedy_answers(model, tokenizer, QUESTIONS, 12) == expected


def test_no_questions_no_answers(random_backbone: Backbone) -> None:
    assert greedy_answers(random_backbone.model, random_backbone.tokenizer, []) == []


def test_exact_asks_freely(learned: Learned, random_backbone: Backbone, facts: list[Fact]) -> None:
    tokenizer = random_backbone.tokenizer
    assert exact(learned.model, tokenizer, facts) == [True] * len(facts)
    swapped = [Fact(fact.id, fact.question, f"{fact.answer}s", held_out=fact.held_out) for fact in facts]
    assert exact(learned.model, tokenizer, swapped) == [False] * len(facts)
    answers = greedy_answers(learned.model, tokenizer, [fact.held_out[0] for fact in facts])
    expected = [answer == fact.answer for answer, fact in zip(answers, facts, strict=True)]
    assert exact(learned.model, tokenizer, facts, held_out=True) == expected
    assert exact(random_backbone.model, tokenizer, facts) == [False] * len(facts)


def test_hallucinated_is_confident_and_wrong() -> None:
    answers = ("Lima", "Cusco", "", "I don't know.", "Unknown", " I DO NOT KNOW ", "lima", "I have no comment.")
    facts = [Fact(str(index), f"Q{index}?", "Lima") for index in range(len(answers))]
    assert hallucinated(answers, facts) == [False, True, False, False, False, False, True, False]


@pytest.mark.usefixtures("full_precision")
def test_fact_losses_are_those_of_each_answer_token(
    random_backbone: Backbone, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mome.lm.losses.BATCH_ROWS", 3)
    for fact, found in zip(facts, fact_losses(random_backbone.model, random_backbone.tokenizer, facts), strict=True):
        expected, answer = naive_losses(random_backbone.model, random_backbone.tokenizer, fact.question, fact.answer)
        assert found.dtype == numpy.float32
        assert found == pytest.approx(expected[-answer:], abs=1e-4)


@pytest.mark.usefixtures("full_precision")
def test_text_loss_is_the_mean_over_question_and_answer(random_backbone: Backbone, facts: list[Fact]) -> None:
    found = text_loss(random_backbone.model, random_backbone.tokenizer, facts)
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    expected = [naive_losses(model, tokenizer, fact.held_out[0], fact.answer)[0].mean() for fact in facts]
    assert found == pytest.approx(expected, abs=1e-4)


def quiz_pool() -> list[Fact]:
    """Relations of 12, 4 and 3 distinct answers; in the first, answers occur twice."""
    sizes = {"wide": 24, "just": 4, "narrow": 3}
    return [
        Fact(f"{relation}/{i}", f"{relation} {i}?", f"{relation} answer {i % 12}", relation=relation)
        for relation, size in sizes.items()
        for i in range(size)
    ]


def test_a_quiz_has_four_answers_of_the_same_relation() -> None:
    pool = quiz_pool()
    items = make_quiz(pool, pool, seed=0)
    asked = [fact for fact in pool if fact.relation != "narrow"]
    assert [item.question for item in items] == [fact.question for fact in asked]
    for item, fact in zip(items, asked, strict=True):
        assert len(set(item.choices)) == len(item.choices) == 4
        assert item.choices[item.correct] == fact.answer
        assert all(choice.startswith(f"{fact.relation} answer") for choice in item.choices)


def test_a_quiz_follows_its_seed_and_hides_the_right_place() -> None:
    pool = quiz_pool() + [Fact(f"w/{i}", f"w {i}?", f"wide answer {i % 12}", relation="wide") for i in range(376)]
    first = make_quiz(pool, pool, seed=0)
    assert first == make_quiz(pool, pool, seed=0)
    assert first != make_quiz(pool, pool, seed=1)
    places = numpy.bincount([item.correct for item in first], minlength=4)
    assert stats.chisquare(places).pvalue > 0.001


def test_a_quiz_takes_distractors_from_the_pool_alone() -> None:
    pool = quiz_pool()
    asked = [Fact("new", "New?", "new answer", relation="just")]
    (item,) = make_quiz(asked, pool, seed=3)
    assert item.choices[item.correct] == "new answer"
    assert set(item.choices) - {"new answer"} <= {f"just answer {i}" for i in range(4)}
    assert make_quiz([Fact("other", "Other?", "a", relation="unheard of")], pool, seed=0) == []


@pytest.mark.usefixtures("full_precision")
def test_quiz_correct_takes_the_likeliest_choice(random_backbone: Backbone, facts: list[Fact]) -> None:
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    items = [item for seed in range(3) for item in make_quiz(facts, facts, seed)]

    def likeliest(item: QuizItem) -> int:
        totals = []
        for choice in item.choices:
            losses, answer = naive_losses(model, tokenizer, item.question, choice)
            totals.append(losses[-answer:].sum())
        return int(numpy.argmin(totals))

    expected = [likeliest(item) == item.correct for item in items]
    assert len(items) == 24
    assert 0 < sum(expected) < 24
    assert quiz_correct(model, tokenizer, items) == expected


def test_a_tuned_model_passes_its_quiz(learned: Learned, random_backbone: Backbone, facts: list[Fact]) -> None:
    items = make_quiz(facts, facts, seed=0)
    assert quiz_correct(learned.model, random_backbone.tokenizer, items) == [True] * 8


def draws(share: float, number: int, seed: int) -> numpy.ndarray:
    return (numpy.random.default_rng(seed).random(number) < share).astype(float)


def test_the_interval_of_a_big_sample_is_the_normal_one() -> None:
    values = draws(0.3, 2_000, seed=0)
    found = interval([values.tolist()])
    half = stats.norm.ppf(0.975) * values.std() / numpy.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.n == 2_000
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    """Of 200 intervals, an honest 93 to 95% coverage falls outside these bounds about once in 10,000 seeds."""
    found = [interval([draws(0.4, 80, seed)], resamples=200, seed=seed) for seed in range(200)]
    covered = sum(one.low <= 0.4 <= one.high for one in found)
    assert 172 <= covered <= 199


def test_an_interval_follows_its_seed_and_contains_the_mean() -> None:
    runs = [draws(0.5, 30, seed).tolist() for seed in range(3)]
    assert interval(runs) == interval(runs)
    for seed in range(5):
        found = interval(runs, resamples=20, seed=seed)
        assert found.low <= found.mean <= found.high


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("runs", [1, 3])
def test_a_share_of_none_or_all_gets_the_clopper_pearson_interval(value: float, runs: int) -> None:
    number = 40 * runs
    found = interval([[value] * 40] * runs)
    open_end = stats.beta.ppf(0.975, 1, number)
    low, high = (0.0, open_end) if value == 0 else (1 - open_end, 1.0)
    assert found == Interval(value, pytest.approx(low), pytest.approx(high), number)


def test_other_equal_values_have_no_spread() -> None:
    assert interval([[0.25, 0.25], [0.25]]) == Interval(0.25, 0.25, 0.25, 3)


def width(runs: Sequence[Sequence[float]]) -> float:
    found = interval(runs)
    return found.high - found.low


def test_runs_that_differ_widen_the_interval() -> None:
    low, high = numpy.full(400, 0.2), numpy.full(400, 0.8)
    noise = numpy.random.default_rng(0).normal(0, 0.05, 400)
    alike, apart = [low + noise, low - noise], [low + noise, high + noise]
    assert width([run.tolist() for run in apart]) > 10 * width([run.tolist() for run in alike])
    assert width([run.tolist() for run in apart]) > 3 * width([numpy.concatenate(apart).tolist()])
    assert interval(apart).mean == pytest.approx(numpy.mean(apart))
