"""Differences, splits and bounds against hand values and counting; what a random split cannot see on a real run."""

import itertools

import numpy
import pytest
from scipy import optimize

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.generation import exact
from mome.lm.loading import load_backbone
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.plan import Recipe
from mome.replication.paper.sec8_insights_fallacies import experiment as insights
from mome.replication.paper.sec8_insights_fallacies import statistics
from mome.train.settings import LoraSettings, TuningSettings


def numbers(*answers: str) -> list[Fact]:
    return [Fact(str(place), f"What is {place}?", answer) for place, answer in enumerate(answers)]


def test_where_nothing_changes_the_interval_is_tangos_closed_form():
    found = statistics.paired_difference([[1, 0, 1]] * 100, [[1, 0, 1]] * 100)
    square = 1.959963984540054**2
    assert (found.mean, found.n, found.changed) == (0, 300, 0)
    assert (found.low, found.high) == pytest.approx((-square / (300 + square), square / (300 + square)), abs=1e-9)
    assert found.within(0.0127) and not found.within(0.0126)


@pytest.mark.parametrize(("gained", "lost", "count"), [(12, 2, 50), (0, 1, 393), (5, 5, 20), (7, 0, 30), (0, 9, 10)])
def test_the_ends_of_the_score_interval_are_where_the_test_says_five_percent(gained, lost, count):
    """The likelihood of the counts is maximized numerically at each end; its score statistic must be z."""
    for end in statistics.score_interval(gained, lost, count):

        def negative(share: float, end: float = end) -> float:
            shares = share + end, share, 1 - 2 * share - end
            counts = gained, lost, count - gained - lost
            return -sum(n * numpy.log(max(p, 1e-300)) for n, p in zip(counts, shares, strict=True) if n)

        bounds = (max(0.0, -end), (1 - end) / 2)
        share = optimize.minimize_scalar(negative, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        deviation = (gained - lost) / count - end
        assert deviation**2 * count / (2 * share + end - end**2) == pytest.approx(1.959964**2, rel=1e-4)


def test_the_score_interval_is_mirrored_and_knows_its_limits():
    low, high = statistics.score_interval(3, 8, 40)
    assert statistics.score_interval(8, 3, 40) == pytest.approx((-high, -low), abs=1e-9)
    assert statistics.score_interval(6, 0, 6)[1] == 1 and statistics.score_interval(0, 6, 6)[0] == -1
    with pytest.raises(ValueError, match="3 gained and 1 lost of 3 answers"):
        statistics.score_interval(3, 1, 3)


def test_a_difference_is_paired_and_one_change_does_not_make_it_surer():
    """Both score a half: answers that only change places are counted, and spread the interval."""
    found = statistics.paired_difference([[1, 0] * 50], [[0, 1] * 50])
    assert found.mean == 0 and found.changed == 100
    assert -0.3 < found.low < -0.1 and 0.1 < found.high < 0.3  # 1.96 / sqrt(100)
    late = statistics.paired_difference([[0.0] * 10 + [1.0] * 90], [[1.0] * 100])
    assert late.mean == pytest.approx(0.1) and late.low > 0 and late.changed == 10
    none, one = (statistics.paired_difference([[1.0] * 400], [[1.0] * (400 - n) + [0.0] * n]) for n in (0, 1))
    assert one.low < none.low and one.high > 0


def test_a_difference_of_other_questions_is_refused():
    with pytest.raises(ValueError, match="zip"):
        statistics.paired_difference([[1, 0]], [[1, 0, 0]])


def test_numbers_are_unique_and_follow_the_seed(project):
    first, again, other = (insights.numbered_facts(2, 3, seed) for seed in (0, 0, 1))
    assert first == again and {fact.answer for fact in first} != {fact.answer for fact in other}
    assert all(len(fact.answer) == 3 and fact.answer.isdigit() for fact in first)
    assert len({fact.answer for fact in first}) == 2
    with pytest.raises(ValueError, match="3 facts with 3 digits: 2 facts are shipped"):
        insights.numbered_facts(3, 3, 0)


def test_every_number_of_two_digits_can_be_given(monkeypatch):
    monkeypatch.setattr(insights, "shipped_facts", lambda name: numbers(*["?"] * 101))
    assert sorted(fact.answer for fact in insights.numbered_facts(100, 2, 0)) == [f"{n:02d}" for n in range(100)]
    with pytest.raises(ValueError, match="numbers are unique"):
        insights.numbered_facts(101, 2, 0)


def test_row_splits_test_each_fact_once_and_never_what_was_trained():
    facts = numbers(*"1234567")
    splits = insights.row_splits(facts, 3, seed=0)
    assert sorted(len(test) for _, test in splits) == [2, 2, 3]
    assert sorted(fact.id for _, test in splits for fact in test) == [fact.id for fact in facts]
    for train, test in splits:
        assert {fact.id for fact in train} == {fact.id for fact in facts} - {fact.id for fact in test}
    for folds in (1, 8):
        with pytest.raises(ValueError, match=f"not {folds}"):
            insights.row_splits(facts, folds, seed=0)


@pytest.mark.parametrize(("facts", "wordings", "tested"), [(3, 2, 2), (3, 2, 4), (2, 3, 4), (4, 1, 3), (2, 4, 3)])
def test_the_covered_share_is_that_of_all_splits(facts, wordings, tested):
    rows = [(fact, wording) for fact in range(facts) for wording in range(wordings)]
    shares = []
    for chosen in itertools.combinations(rows, tested):
        trained = {fact for fact, wording in set(rows) - set(chosen)}
        shares.append(numpy.mean([fact in trained for fact, _ in chosen]))
    assert insights.covered_share(facts, wordings, tested) == pytest.approx(numpy.mean(shares), abs=1e-9)


def test_nothing_is_covered_where_a_fact_is_one_row():
    assert insights.covered_share(100, 1, 20) == 0
    for tested in (0, 6):
        with pytest.raises(ValueError, match=f"{tested} of 6 rows tested"):
            insights.covered_share(3, 2, tested)


def test_digits_count_in_their_places():
    right = insights.digits_right(["1234", "124", "", "12345"], numbers("1234", "1234", "1234", "1234"))
    assert right.tolist() == [[True] * 4, [True, True, False, False], [False] * 4, [True] * 4]
    with pytest.raises(ValueError, match=r"not of \[1, 2\] digits"):
        insights.digits_right(["1", "2"], numbers("1", "22"))


def test_the_error_bound_is_where_so_few_errors_have_five_percent():
    assert statistics.error_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-9)
    assert statistics.error_bound(0, 1000) == pytest.approx(3 / 1000, rel=0.01)
    bound = statistics.error_bound(1, 20)
    assert (1 - bound) ** 20 + 20 * bound * (1 - bound) ** 19 == pytest.approx(0.05, abs=1e-9)
    assert statistics.error_bound(7, 7) == 1
    with pytest.raises(ValueError, match="3 errors of 2"):
        statistics.error_bound(3, 2)


def test_a_random_split_is_zero_for_who_recalls_every_training_row(project, backbone_folder, monkeypatch):
    monkeypatch.setattr(insights, "shipped_facts", lambda name: shipped_facts("known"))
    recipe = Recipe().but(router={"objective": "none"}, memory={"learning_rate": 0.02, "epochs": 200})
    facts = insights.numbered_facts(4, 4, 0)
    table = insights.random_split_table(str(backbone_folder), facts, 2, recipe, [], run=7)
    assert table.groupby("rows")["right"].agg(["mean", "size"]).to_dict("index") == {
        insights.TRAIN: {"mean": 1.0, "size": 4},
        insights.TEST: {"mean": 0.0, "size": 4},
    }
    assert set(table["run"]) == {7} and set(table["id"]) == {fact.id for fact in facts}


def test_a_tuned_model_is_measured_as_evaluation_measures_it(project, backbone_folder):
    facts = insights.numbered_facts(2, 3, 0)
    settings = TuningSettings(epochs=60, learning_rate=1e-2, stop_loss=0.01)
    done = memorize(str(backbone_folder), facts, settings, LoraSettings(rank=4))
    found, right = insights.measure_model(done.backbone, facts, shipped_facts("known"), 0)
    assert found["recall"] == [float(each) for each in exact(done.backbone.model, done.backbone.tokenizer, facts)]
    assert found["recall"] == right.all(axis=1).tolist() == [1.0, 1.0]
    assert all(0.9 < share <= 1 for share in found["sampled"])
    assert len(found["general_accuracy"]) == len(shipped_facts("known")) > len(found["other_words"]) == 2
    untouched = load_backbone(str(backbone_folder)).model.num_parameters()
    assert insights.trained_parameters(done) == done.backbone.model.num_parameters() - untouched > 0


def test_capacity_is_read_from_notebook_11_or_measured(project, backbone_folder):
    folder = project / "data" / "results" / "tiny"
    recipe = Recipe().but(router={"objective": "none"}, memory={"epochs": 2, "repairs": 0})
    asked = shipped_facts("known")[:2]
    points, there = insights.capacity_points("tiny", str(backbone_folder), recipe, asked, 2, [4])
    assert there == "" and points[["facts", "experts"]].values.tolist() == [[2, 4]]
    folder.mkdir(parents=True)
    known = {"backbone": "tiny-llama", "recall": 0.5, "bits_asked": 192.0, "bits_stored": 96.0, "parameters": 32}
    points.assign(**known).to_csv(folder / "11_sec7_scaling.csv")
    read, there = insights.capacity_points("tiny", "none", recipe, asked, 2, [4])
    (row,) = insights.with_demand(read).to_dict("records")
    assert there == "notebook 11" and (row["asked"], row["held"], row["facts_held"]) == (6, 3, 2 * 0.5 / 32)
    other, there = insights.capacity_points("small", "none", recipe, asked, 2, [4])
    assert there == "notebook 11 at tiny: tiny-llama" and other.equals(read)
