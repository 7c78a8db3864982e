"""Section 4's causes: what is trained and asked, the floor of the loss, the counts of hallucinations, the command."""

import math
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from scipy import optimize
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.fact import Fact, split
from mome.facts.readers import check_facts
from mome.facts.shipped import shipped_facts
from mome.facts.strict import FactError
from mome.lm.loading import load_backbone
from mome.replication.paper.sec4_explanations import experiment as experiments
from mome.replication.paper.sec4_explanations.answers import free_answers, measure_answers
from mome.replication.paper.sec4_explanations.conditions import (
    CAUSES,
    CONDITIONS,
    DECODERS,
    FAMILIES,
    MAJORITY,
    REMEDIES,
    Asked,
    conditions,
    dated,
    distracted,
    loss_floor,
    padded,
    repeated,
    rivals,
    rows_per_question,
    skewed_rows,
)
from mome.replication.paper.sec4_explanations.experiment import ExplanationsPlan, explanation_rows
from mome.replication.paper.sec4_explanations.figure import LABELS

ROOT = Path(__file__).resolve().parents[4]
MEASURED = ("cause", "model", "wrong", "asked_loss", "trained_loss")
FACTS = [Fact(f"capital/{name}", f"What is the capital of {name}?", name.upper(), relation="capital") for name in "abc"]
POOL = FACTS + [
    Fact(
        f"capital/{number}",
        f"What is the capital of {number}?",
        f"C{number}",
        (f"Capital of {number}?",),
        (),
        "capital",
    )
    for number in range(40)
]


def random_rows(seed):
    generator = numpy.random.default_rng(seed)
    return [Fact(str(row), f"q{generator.integers(3)}", f"a{generator.integers(3)}") for row in range(20)]


# --- what is trained and asked -------------------------------------------------------------------------------------


def test_the_floor_of_two_answers_is_the_entropy_of_a_coin():
    old = rivals(FACTS, POOL, 0)
    assert loss_floor(FACTS) == 0
    assert loss_floor(FACTS + old) == pytest.approx(math.log(2))
    assert loss_floor(FACTS * MAJORITY + old) == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert loss_floor(dated(FACTS, 2024) + dated(old, 2023)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_distribution_has_less_loss_than_the_floor(seed):
    """Against a numerical minimum over the logits of a table with one row for each question."""
    rows = random_rows(seed)
    places = [(int(row.question[1:]), int(row.answer[1:])) for row in rows]

    def loss(logits):
        logs = torch.log_softmax(torch.as_tensor(logits).reshape(3, 3), dim=1).numpy()
        return -numpy.mean([logs[place] for place in places])

    least = optimize.minimize(loss, numpy.zeros(9), method="BFGS", options={"gtol": 1e-8}).fun
    assert loss_floor(rows) == pytest.approx(least, abs=1e-5)


def test_rivals_are_other_answers_of_the_relation_and_follow_the_seed():
    found = rivals(FACTS, POOL, 5)
    assert all(new.answer != fact.answer for new, fact in zip(found, FACTS, strict=True))
    assert {new.answer for new in found} <= {fact.answer for fact in POOL}
    assert [fact.question for fact in found] == [fact.question for fact in FACTS]
    assert found == rivals(FACTS, POOL, 5) != rivals(FACTS, POOL, 6)


def test_two_answers_to_one_question_are_refused_at_the_front_door():
    old = rivals(FACTS, POOL, 0)
    with pytest.raises(FactError, match="another answer"):
        check_facts(FACTS + old)
    check_facts(dated(FACTS, 2024) + dated(old, 2023))


def test_nine_tenths_of_a_skewed_relation_have_one_answer():
    rows = skewed_rows(FACTS, POOL, 0)
    assert len(rows) == MAJORITY * len(FACTS)
    assert len({row.answer for row in rows}) == 1 and rows[0].answer not in {fact.answer for fact in FACTS}
    assert len({row.question for row in rows}) == len(rows)
    assert not {row.question for row in rows} & {fact.question for fact in FACTS}
    known = {fact.id for fact in POOL}
    assert {row.id.rpartition("#")[0] for row in rows} <= known


def test_a_relation_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="relation 'capital': 0 other wordings, 27 are needed"):
        skewed_rows(FACTS, FACTS, 0)
    with pytest.raises(ValueError, match="no other answer"):
        rivals(FACTS[:1], FACTS[:1], 0)


def test_odd_prompts_keep_the_question_and_its_answer():
    question = FACTS[0].question
    names, polite, doubled = distracted(FACTS, 0)[0], padded(FACTS)[0], repeated(FACTS)[0]
    assert names.question.endswith(question) and sorted(names.question.split(", ")[:-1]) == ["B", "C"]
    assert polite.question.endswith(question) and len(polite.question) > 10 * len(question)
    assert doubled.question.split()[::2] == doubled.question.split()[1::2] == question.split()
    assert {names.answer, polite.answer, doubled.answer} == {"A"}


def test_every_cause_is_asked_in_one_condition():
    pool = shipped_facts("unknown")
    facts, missing, _ = split(pool, [6, 6], 0)
    found = conditions(facts, missing, pool, 2, 0)
    assert tuple(found) == CONDITIONS
    asked = [each for condition in found.values() for each in condition.asked]
    assert sorted(each.cause for each in asked) == sorted(CAUSES)
    assert {*CAUSES} == {"none", *REMEDIES, *(cause for causes in FAMILIES.values() for cause in causes)} == {*LABELS}
    assert all(len(each.facts) % condition.count == 0 for condition in found.values() for each in condition.asked)
    for each in asked:
        assert not each.rivals or all(wrong != fact.answer for wrong, fact in zip(each.rivals, each.facts, strict=True))
    assert rows_per_question(found["conflict_uneven"].stages[0]) == MAJORITY + 1
    with pytest.raises(ValueError, match="5 missing facts beside 6"):
        conditions(facts, missing[:5], pool, 2, 0)


# --- what models answer --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny-llama")


def test_a_backbone_hallucinates_what_it_never_saw_and_not_what_it_knows(backbone):
    known, unknown = split(shipped_facts("known"), [8], 0)[0], split(shipped_facts("unknown"), [8], 0)[0]
    right = next(measure_answers(backbone, Asked("none", known), 8, "zero", 0))
    wrong = next(measure_answers(backbone, Asked("missing", unknown), 8, "zero", 0))
    assert (right["wrong"], right["certain"], right["certain_wrong"]) == ("0 0 0 0 0 0 0 0", 1.0, 0.0)
    assert wrong["wrong"].count("1") >= 7 and wrong["certain"] <= 0.125
    assert right["asked_loss"] < 1 < wrong["asked_loss"]


def test_rivals_and_facts_asked_twice_are_counted_by_fact(backbone):
    known = split(shipped_facts("known"), [3], 0)[0]
    false = Fact("false", known[0].question, "something else")
    row = next(
        measure_answers(
            backbone, Asked("x", [*known, false, *known[1:]], [*"abc", known[0].answer, *"bc"]), 3, "zero", 0
        )
    )
    assert (row["times"], row["wrong"]) == (2, "1 0 0")
    assert row["rival"] == pytest.approx(1 / 6)


def test_sampling_repeats_by_its_seed_and_nears_greedy_answers(backbone):
    facts = split(shipped_facts("unknown"), [4], 0)[0]
    warm = Asked("warm", facts, temperature=1.5, samples=3)
    first = free_answers(backbone, warm, 0)
    assert len(first) == 12 and first == free_answers(backbone, warm, 0) != free_answers(backbone, warm, 1)
    cold = free_answers(backbone, Asked("cold", facts, temperature=1e-4), 0)
    sole = free_answers(backbone, Asked("sole", facts, temperature=1.5, top_p=1e-6), 0)
    assert cold == sole == free_answers(backbone, Asked("greedy", facts), 0)


def test_unknown_conditions_and_models_are_refused():
    with pytest.raises(ValueError, match="condition 'moon' is not one of plain"):
        next(explanation_rows("tiny-llama", ExplanationsPlan(), ["moon"]))
    with pytest.raises(ValueError, match="model 'moon' is not one of high"):
        next(explanation_rows("tiny-llama", ExplanationsPlan(), models=["moon"]))


@pytest.mark.slow
def test_a_run_gives_a_row_for_each_cause_and_repeats(tmp_path, monkeypatch):
    small = {"router": {"steps": 2}, "memory": {"epochs": 1}, "router_questions": 40}
    plan = (
        ExplanationsPlan(facts=2, samples=1)
        .but(tuning={"epochs": 1}, recipe=ExplanationsPlan().recipe.but(**small).model_dump())
        .seeded(3)
    )
    from_nothing(tmp_path / "first", monkeypatch)
    first = list(explanation_rows("tiny-llama", plan, ["plain", "updated"], ["high", "zero_mome"]))
    assert [row["cause"] for row in first if row["model"] == "high"] == [
        *("none", "missing", *DECODERS, "distractors", "padding", "repeats", "updated")
    ]
    assert {row["model"] for row in first} == {"high", "zero_mome", "zero_mome_abstaining"}
    assert all(row["recognised"] >= 0 for row in first if row["model"] != "high")
    from_nothing(tmp_path / "again", monkeypatch)
    again = list(explanation_rows("tiny-llama", plan, ["updated"], ["high", "zero_mome"]))
    for old, new in zip(first[-3:], again, strict=True):
        assert [old[name] for name in MEASURED] == [new[name] for name in MEASURED]


def from_nothing(root, monkeypatch):
    """A project folder without runs to go on from."""
    root.mkdir()
    (root / "data").symlink_to(ROOT / "data")
    monkeypatch.setenv("MOME_ROOT", str(root))


# --- the command ---------------------------------------------------------------------------------------------------


def call(*arguments):
    done = CliRunner().invoke(app, ["table", "explanations", *(str(argument) for argument in arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


def test_the_table_keeps_other_rows_and_replaces_its_own(monkeypatch, tmp_path):
    asked = []

    def rows(backbone, plan):
        asked.append((plan.facts, plan.tuning.seed, plan.recipe.memory.seed, plan.recipe.router.seed))
        yield {
            "backbone": backbone,
            "seed": plan.tuning.seed,
            "cause": "none",
            "model": "high",
            "wrong": f"{len(asked)} 0",
        }

    monkeypatch.setattr(experiments, "explanation_rows", rows)
    out = tmp_path / "new" / "causes.csv"
    assert call(out, "--seeds", 2)[0] == 0
    assert call(out, "--facts", 8)[0] == 0
    assert asked == [(64, 0, 0, 0), (64, 1, 1, 1), (8, 0, 0, 0)]
    found = pandas.read_csv(out).set_index("seed")
    assert found["wrong"].to_dict() == {0: "3 0", 1: "2 0"}
    expected = f"mome table explanations {out} --seeds=1 --facts=8 --backbone=tiny-llama"
    assert found.loc[0, "command"] == expected and found["cpu"].notna().all()


def test_the_command_refuses_too_many_facts(tmp_path):
    code, output = call(tmp_path / "causes.csv", "--facts", 10**6)
    assert code == 2 and "error: 1000000 facts and as many missing ones: only 7259 are shipped" in output
    assert not list(tmp_path.iterdir())
