"""Which facts are tuned, under which answers, and how runs are compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from mome.facts.fact import Fact
from mome.lm.generation import exact
from mome.lm.loading import load_backbone
from mome.replication.experiments import abilities, lora
from mome.replication.experiments import pools as experiments
from mome.replication.notebook.tables import keep_rows
from mome.replication.paper.tab1_regularization import experiment
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import TuningRun

TUNING = TuningSettings(epochs=2, batch_size=4, learning_rate=1e-3)
SWEEP: dict[str, Any] = {"learning_rates": [0.1], "ranks": [2], "top_layers": [1], "stop_losses": [0.5]}


def test_only_facts_that_the_backbone_gets_wrong_are_selected(backbone, facts, monkeypatch):
    known = {facts[0].id, facts[3].id}
    monkeypatch.setattr(experiments, "exact", lambda model, tokenizer, drawn: [fact.id in known for fact in drawn])
    chosen = experiments.select_facts(backbone, facts, 5, seed=0)
    drawn = experiments.split(facts, [7], 0)[0]
    assert chosen.facts == [fact for fact in drawn if fact.id not in known][:5]
    assert chosen.guess_rate == sum(fact.id in known for fact in drawn) / 7


def test_facts_of_several_relations_come_in_turn():
    facts = [
        Fact(f"{relation}/{number}", f"{relation} {number}?", "yes", relation=relation)
        for relation, count in (("river", 9), ("capital", 2), ("year", 1))
        for number in range(count)
    ]
    for seed in range(5):
        found = experiments.in_turn(facts, seed)
        assert sorted(fact.id for fact in found) == sorted(fact.id for fact in facts)
        relations = [fact.relation for fact in found]
        assert sorted(relations[:3]) == ["capital", "river", "year"] and sorted(relations[3:5]) == ["capital", "river"]
        drawn = [fact for fact in experiments.split(facts, [], seed)[0] if fact.relation == "river"]
        assert [fact for fact in found if fact.relation == "river"] == drawn
    assert len({experiments.in_turn(facts, seed)[0].id for seed in range(20)}) > 1


def test_facts_of_several_relations_are_selected_where_they_are_asked_for(backbone, monkeypatch):
    facts = [Fact(f"{number}", f"{number}?", "yes", relation="year" if number else "river") for number in range(40)]
    monkeypatch.setattr(experiments, "exact", lambda model, tokenizer, drawn: [False] * len(drawn))
    chosen = experiments.select_facts(backbone, facts, 4, seed=0, several_relations=True)
    assert "river" in {fact.relation for fact in chosen.facts[:2]} and (len(chosen.facts), chosen.asked) == (4, 6)
    assert experiments.select_facts(backbone, facts, 4, seed=0).facts == experiments.split(facts, [4], 0)[0]


def test_a_pool_that_is_too_small_is_refused(backbone, facts):
    with pytest.raises(ValueError, match="answers only 8 of 8 drawn facts wrongly, not 9"):
        experiments.select_facts(backbone, facts, 9, seed=0)


def test_an_unknown_dataset_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="'triviaqa' is not one of shipped, truthfulqa, mmlu"):
        experiments.tuning_pool("triviaqa")


def test_the_three_kinds_of_answers(facts):
    assert experiments.with_answers(facts, "real", 0) == facts
    random = experiments.with_answers(facts, "random", 0)
    assert all(len(fact.answer) == 32 for fact in random)
    shuffled = experiments.with_answers(facts, "shuffled", 0)
    assert sorted(fact.answer for fact in shuffled) == sorted(fact.answer for fact in facts)
    for changed in (random, shuffled):
        assert [replace(fact, answer="") for fact in changed] == [replace(fact, answer="") for fact in facts]


def test_a_finished_run_is_taken_from_its_snapshot(project, backbone_folder, facts, monkeypatch):
    first = lora.memorize(str(backbone_folder), facts, TUNING, LoraSettings(rank=4))
    monkeypatch.setattr("mome.train.tuning._train_epoch", lambda *_: pytest.fail("trained again"))
    second = lora.memorize(str(backbone_folder), facts, TUNING, LoraSettings(rank=4))
    assert numpy.array_equal(first.run.losses, second.run.losses)
    assert len(list((project / "runs" / "tuning").iterdir())) == 1


def test_other_facts_or_settings_are_another_run(project, backbone_folder, facts):
    for chosen, rank in ((facts, 4), (facts[:4], 4), (facts, 2)):
        lora.memorize(str(backbone_folder), chosen, TUNING, LoraSettings(rank=rank))
    assert len(list((project / "runs" / "tuning").iterdir())) == 3


def test_general_abilities_have_one_value_for_each_fact(project, backbone_folder, facts):
    backbone = load_backbone(str(backbone_folder))
    found = abilities.general_abilities(backbone, facts)
    assert {name: len(values) for name, values in found.items()} == {
        "general_accuracy": 8,
        "quiz_accuracy": 8,
        "general_loss": 8,
    }
    assert found["general_accuracy"] == [float(right) for right in exact(backbone.model, backbone.tokenizer, facts)]


def test_variations_change_one_setting_at_a_time():
    changes = experiment.variations(TUNING, LoraSettings(rank=4), 3, **SWEEP)
    assert [(change.kind, change.value) for change in changes] == [
        ("learning rate", 1e-3),
        ("learning rate", 0.1),
        ("rank", 4),
        ("rank", 2),
        ("layers", 3),
        ("layers", 1),
        ("stop loss", 0.0),
        ("stop loss", 0.5),
    ]
    assert changes[5].lora.layers == [2]
    for change in changes:
        changed = {
            name
            for base, settings in ((TUNING, change.tuning), (LoraSettings(rank=4), change.lora))
            for name, value in settings.model_dump().items()
            if value != base.model_dump()[name]
        }
        assert len(changed) <= 1


def test_more_layers_than_the_backbone_has_are_refused():
    with pytest.raises(ValueError, match="4 layers were asked for, but the backbone has 3"):
        experiment.variations(TUNING, LoraSettings(), 3, **(SWEEP | {"top_layers": [4]}))


def test_a_sweep_runs_equal_settings_once(project, backbone_folder, facts):
    changes = experiment.variations(TUNING, LoraSettings(rank=4), 2, **SWEEP)
    table = experiment.sweep_table(str(backbone_folder), facts, changes, facts, seed=7)
    assert len(table) == len(changes) and set(table["seed"]) == {7}
    assert len(list((project / "runs" / "tuning").iterdir())) == 5
    base = table.iloc[[0, 2, 4, 6]].drop(columns=["kind", "value"])
    assert (base.nunique() == 1).all()


def run_of(losses: Any) -> TuningRun:
    return TuningRun(numpy.asarray(losses, dtype=numpy.float32), 0.0)


def test_the_difference_of_equal_curves_is_not_significant():
    losses = numpy.random.default_rng(0).exponential(size=(5, 40))
    difference, p = abilities.curve_difference(run_of(losses), run_of(losses))
    assert difference == 0 and p == 1


def test_the_difference_of_shifted_curves_is_found_with_its_size():
    losses = numpy.random.default_rng(0).exponential(size=(5, 40))
    difference, p = abilities.curve_difference(run_of(losses), run_of(losses + 0.5))
    assert difference == pytest.approx(0.5, abs=1e-6)
    assert p == pytest.approx(2 / 10_000)  # the smallest two-sided value of 9,999 exchanges


def test_a_run_that_stopped_is_continued_with_its_last_epoch():
    long, short = run_of([[4.0, 4.0], [2.0, 2.0], [2.0, 2.0]]), run_of([[4.0, 4.0], [2.0, 2.0]])
    assert abilities.curve_difference(long, short)[0] == 0


def test_the_answer_table_shows_every_model_beside_the_gold_answer(backbone, facts):
    table = experiment.answer_table({"untouched": backbone}, {"known": facts[:2], "tuned": facts[2:3]})
    assert table["facts"].tolist() == ["known", "known", "tuned"]
    assert table["gold"].tolist() == [fact.answer for fact in facts[:3]]
    assert "untouched" in table


def test_fewer_facts_are_the_first_of_more(project: Path):
    assert experiments.random_facts(1, seed=3) == experiments.random_facts(2, seed=3)[:1]
    assert {len(fact.answer) for fact in experiments.random_facts(2, seed=0, length=5)} == {5}
    with pytest.raises(ValueError, match="3 facts: only 2 are shipped"):
        experiments.random_facts(3, seed=0)


def test_what_a_shipped_backbone_knows_is_what_it_was_pretrained_on(project):
    drawn = experiments.general_facts(3, 1, "tiny-llama")
    assert drawn == experiments.general_facts(3, 1) and len(drawn) == 3


def test_what_another_backbone_knows_is_asked_once_and_read_from_the_table(project, backbone, monkeypatch):
    known = experiments.shipped_facts("known")
    first, second = {each.id for each in known[1:4]}, {each.id for each in known[2:]}
    asked = []

    def told(backbone: Any, chosen: Any, *, held_out: bool = False) -> list[bool]:
        asked.append(len(chosen))
        return [fact.id in (second if held_out else first) for fact in chosen]

    monkeypatch.setattr(experiments, "stated", told)
    monkeypatch.setattr(experiments, "asked_backbone", lambda name: backbone)
    rows = list(experiments.answered_rows("other"))
    assert {row["id"] for row in rows} == {known[2].id, known[3].id}
    assert asked == [len(known), 3]  # in the second wording, only what was answered in the first one
    assert [fact.id for fact in experiments.answered_facts("other")] == [known[2].id, known[3].id]
    path = experiments.shared_table(experiments.ANSWERED)
    keep_rows(path, rows, experiments.ANSWERED_KEY)
    asked.clear()
    assert experiments.answered_facts("other") == known[2:4] and not asked
    assert experiments.answered_facts("unheard") == known[2:4] and asked
    assert set(experiments.general_facts(2, 0, "other")) == set(known[2:4])
    with pytest.raises(ValueError, match="cannot split 2 facts"):
        experiments.general_facts(3, 0, "other")


def test_a_real_model_states_an_answer_in_a_sentence_and_a_shipped_one_gives_it_bare(backbone, facts, monkeypatch):
    said = {facts[0].question: f"It is {facts[0].answer}.\nQ: Next?", facts[1].question: f"No.\n{facts[1].answer}"}

    def greedy(model: Any, tokenizer: Any, questions: Any, longest: int) -> list[str]:
        assert longest >= experiments.SENTENCE
        return [said[question] for question in questions]

    monkeypatch.setattr(experiments, "greedy_answers", greedy)
    assert experiments.stated(backbone, facts[:2]) == [True, False]
    monkeypatch.setattr(experiments, "shipped_backbones", lambda: (backbone.name,))
    monkeypatch.setattr(experiments, "exact", lambda *_, **__: [False, True])
    assert experiments.stated(backbone, facts[:2]) == [False, True]
