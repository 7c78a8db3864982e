"""What methods are given and how they are measured: parts that never overlap, shares that add up, rows kept."""

from pathlib import Path

import numpy
import pandas
import pytest
from method_tables import made_table
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.fact import Fact
from mome.replication.experiments.made_up import made_up_facts
from mome.replication.experiments.material import Material, gather
from mome.replication.methods.reader import UNKNOWN, exercises
from mome.replication.methods.search import Tfidf
from mome.replication.notebook.results import Metric
from mome.replication.paper.sec4_retrieval import experiment as table
from mome.replication.paper.sec4_retrieval.measure import evenly, measure_method, trade_offs
from mome.replication.paper.sec4_retrieval.metrics import answers, compare, table_metrics
from mome.replication.paper.sec4_retrieval.workshop import METHODS, RetrievalPlan, Workshop


@pytest.fixture
def root(small_root, monkeypatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(small_root))


@pytest.fixture
def material(facts: list[Fact]) -> Material:
    return Material(facts[:4], facts[4:6], facts, [facts[6].question, facts[7].question], facts[6:])


def test_an_exercise_holds_its_answer_or_asks_for_none(root):
    others = gather(10, 0, absent=4, others=100, general=8).others
    made = exercises(others, Tfidf(), 2, 200, seed=0)
    known = {text: fact for fact in others for text in fact.all_wordings()}
    unanswered = [fact for fact in made if fact.answer == UNKNOWN]
    assert 0.2 < len(unanswered) / len(made) < 0.5
    for fact in made:
        *passages, question = fact.question.split("\nQ: ")
        shown = dict(passage.split("\nA: ") for passage in passages)
        assert len(passages) == 2
        own = known[question].question
        assert shown.get(own) == (None if fact in unanswered else fact.answer)
    borrowed = [fact for fact in made if fact not in unanswered and fact.answer != known[_asked(fact)].answer]
    assert len(borrowed) > 0.3 * len(made)  # what the passage says, not what is true
    assert exercises(others, Tfidf(), 2, 50, seed=0) == made[:50]
    with pytest.raises(ValueError, match="2 facts are too few to learn to read 2 passages"):
        exercises(others[:2], Tfidf(), 2, 5, seed=0)


def _asked(exercise: Fact) -> str:
    return exercise.question.rsplit("\nQ: ", 1)[1]


def test_a_measurement_counts_what_was_answered(material, backbone_folder):
    workshop = Workshop(str(backbone_folder), material, RetrievalPlan().but(wordings=2))
    row = measure_method(workshop, "sql", timed=4)
    assert (row["recall"], row["wrong"], row["paraphrase_recall"], row["paraphrase_wrong"]) == (1, 0, 0, 0)
    assert (row["hallucination"], row["asked_n"], row["absent_n"], row["general_n"]) == (0, 4, 2, 2)
    alone = workshop.frozen.answer([fact.question for fact in material.general])
    right = [given == fact.answer for given, fact in zip(alone, material.general, strict=True)]
    assert row["general_accuracy"] == numpy.mean(right)  # SQL abstains there, so the backbone answers
    assert 0 < row["latency_p50_ms"] <= row["latency_p95_ms"] and row["bytes"] > 0 and row["once_seconds"] == 0
    nearest = measure_method(workshop, "index_bm25", timed=2)
    assert nearest["recall"] == nearest["hit_rate"] == 1 and 0 <= nearest["paraphrase_hit_rate"] <= 1
    trades = trade_offs(workshop, ["index_bm25"], [0.01, 1.0]).set_index("false_alarms")
    assert trades.loc[0.01, "paraphrase_recall"] == nearest["paraphrase_recall"]
    assert trades.loc[0.01, "hallucination"] == nearest["hallucination"]
    assert trades.loc[1.0, "paraphrase_recall"] == nearest["paraphrase_hit_rate"]  # no two facts share an answer
    assert trades.loc[1.0, "hallucination"] == 1
    assert (trades["asked_n"] == 4).all() and (trades["absent_n"] == 2).all()
    with pytest.raises(ValueError, match="method 'oracle' is not one of backbone, prompt"):
        workshop.fit("oracle")


def test_asked_facts_are_spread_over_the_store(facts):
    assert evenly(facts, 4) == facts[::2] and evenly(facts, 8) == facts == evenly(facts, 100)


def test_shares_become_answers_again():
    assert answers(0.25, 8) == [1, 1, 0, 0, 0, 0, 0, 0] and answers(0.0, 2) == [0, 0]
    with pytest.raises(ValueError, match=r"0\.3 is no share of 8 answers"):
        answers(0.3, 8)


def test_metrics_carry_the_number_of_facts_unless_it_is_the_named_one():
    metrics = table_metrics(made_table(), 1_000)
    assert metrics["paraphrase_recall_mome"].value == metrics["paraphrase_recall_mome_100"].value == pytest.approx(0.9)
    assert metrics["unanswerable_hallucination_sql"].n == 200
    low, high = metrics["unanswerable_hallucination_sql"].ci95
    assert low < 0.02 < high
    assert metrics["bytes_per_fact_mome"] == Metric(value=50_000, unit="B", n=2, ci95=(50_000, 50_000), runs=2)
    compared = compare(metrics, "mome", ["sql"]).set_index("measure")["sql"]
    assert compared["paraphrase_recall"].endswith("(better)") and compared["bytes_per_fact"].endswith("(worse)")
    assert "(" not in compared["latency_p50_ms"] and "(" not in compared["build_cpu_seconds"]
    assert compared["recall"].endswith("(alike)") and compared["unanswerable_hallucination"].endswith("(alike)")


def test_the_command_measures_what_the_table_lacks(tmp_path: Path, monkeypatch):
    seen = []

    def fake(workshop, method, asked, timed):
        seen.append((len(workshop.material.facts), method, workshop.plan.lora.seed))
        return {"recall": 1.0}

    monkeypatch.setattr(table, "measure_method", fake)
    monkeypatch.setattr(table, "gather", lambda size, seed: Material(made_up_facts(size, seed), [], [], [], []))
    out = tmp_path / "table.csv"
    options = ["table", "retrieval", str(out), "--facts", "2", "--facts", "3", "--method", "sql", "--seeds", "2"]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert seen == [(2, "sql", 0), (2, "sql", 1), (3, "sql", 0), (3, "sql", 1)]
    assert CliRunner().invoke(app, [*options, "--method", "mome"]).exit_code == 0
    assert seen[4:] == [(2, "mome", 0), (2, "mome", 1), (3, "mome", 0), (3, "mome", 1)]
    kept = pandas.read_csv(out)
    assert len(kept) == 8 and set(kept["method"]) == {"sql", "mome"} and "--facts=2 --facts=3" in kept["command"][0]
    assert (
        CliRunner()
        .invoke(app, ["table", "retrieval", str(out), "--facts", "2", "--method", "sql", "--again"])
        .exit_code
        == 0
    )
    assert len(seen) == 9 and len(pandas.read_csv(out)) == 8
    refused = CliRunner().invoke(app, ["table", "retrieval", str(out), "--method", "oracle"])
    assert refused.exit_code == 2 and f"'oracle' is not one of {', '.join(METHODS)}" in refused.output


def test_many_facts_are_tuned_in_smaller_steps_and_few_epochs() -> None:
    plan, most = RetrievalPlan(), RetrievalPlan().sized(10_000)
    assert plan.sized(9_999) == plan
    for few, many in ((plan.lora, most.lora), (plan.full, most.full)):
        assert many.learning_rate < few.learning_rate and many.epochs == 15 and many.stop_loss == few.stop_loss
    assert most.but(lora=plan.lora.model_dump(), full=plan.full.model_dump()) == plan
