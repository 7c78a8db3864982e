"""Edits are drawn, counted and tabulated as said: against made-up methods whose answers are known beforehand."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.replication.paper.sec10_editing import experiment as tables
from mome.replication.paper.sec10_editing.contenders import EditingPlan
from mome.replication.paper.sec10_editing.figure import editing
from mome.replication.paper.sec10_editing.measures import (
    MEASURES,
    Watch,
    sequential_edits,
    single_edits,
    teacher_forced,
)
from mome.replication.paper.sec10_editing.metrics import edit_metrics, outcomes
from mome.replication.paper.sec10_editing.public_edits import Probe
from mome.replication.paper.sec10_editing.stream import ADD, KNOWN, UPDATE, Stream, StreamEdit, draw_stream


@pytest.fixture(scope="module")
def shipped() -> dict[str, list[Fact]]:
    return {name: shipped_facts(name) for name in ("known", "unknown")}


@pytest.fixture(scope="module")
def drawn(shipped) -> Stream:
    return draw_stream(shipped["known"], shipped["unknown"], 100, seed=3, others=10, general=20)


def test_a_stream_has_its_shares_and_names_each_fact_once(drawn):
    kinds = [edit.kind for edit in drawn.edits]
    assert [kinds.count(kind) for kind in (UPDATE, KNOWN, ADD)] == [20, 30, 50]
    assert sorted(kinds) != kinds  # in random order
    assert [len(part) for part in (drawn.held, drawn.others, drawn.general)] == [30, 10, 20]
    edited = {edit.fact.id for edit in drawn.edits}
    assert len(edited) == 100 and not edited & {fact.id for fact in (*drawn.others, *drawn.general)}
    updated = {edit.fact.id for edit in drawn.edits if edit.kind == UPDATE}
    assert {fact.id for fact in drawn.held} == updated | {fact.id for fact in drawn.others}
    assert len(set(drawn.wordings)) == len({*drawn.wordings}) and drawn.general[0].held_out[0] in drawn.wordings


def test_a_stream_contradicts_what_is_known_and_adds_what_is_true(drawn, shipped):
    truths = {fact.id: fact for facts in shipped.values() for fact in facts}
    relations: dict[str, set[str]] = {}
    for fact in truths.values():
        relations.setdefault(fact.relation, set()).add(fact.answer)
    for edit in drawn.edits:
        true = truths[edit.fact.id]
        assert edit.subject in true.question
        assert edit.fact.answer in relations[true.relation]
        assert (edit.fact == true) if edit.kind == ADD else (edit.fact.answer != true.answer == edit.old)


def test_a_hop_follows_from_the_new_answer_and_does_not_name_it(drawn, shipped):
    known = {fact.id: fact for fact in shipped["known"]}
    hops = [edit for edit in drawn.edits if edit.hop]
    assert len(hops) >= 10
    for edit in hops:
        assert edit.hop and edit.fact.answer not in edit.hop.question.replace(edit.subject, "")
        assert edit.subject in edit.hop.question
        assert known[f"{edit.hop.kind}/{edit.fact.answer}"].answer == edit.hop.answers[0]
        assert f"{edit.hop.kind}/{edit.fact.answer}" not in {other.fact.id for other in drawn.edits}


def test_a_stream_is_the_same_for_a_seed(drawn, shipped):
    parts = shipped["known"], shipped["unknown"]
    again, other = (draw_stream(*parts, 100, seed, others=10, general=20) for seed in (3, 4))
    assert again == drawn != other
    with pytest.raises(ValueError, match="cannot split"):
        draw_stream(shipped["known"][:30], shipped["unknown"], 100, seed=0)


# --- counting -------------------------------------------------------------------------------------------------------


class Table:
    """A method that answers from a dictionary, knows `right` facts, and forgets the oldest edit beyond `room`."""

    model: Any = None
    tokenizer: Any = None

    def __init__(self, right: Sequence[Fact], room: int = 99) -> None:
        self.answers = {fact.question: fact.answer for fact in right}
        self.edited: list[str] = []
        self.room = room

    def answer(self, questions: Sequence[str]) -> list[str]:
        return [self.answers.get(question, "?") for question in questions]

    def apply(self, edit: StreamEdit) -> bool:
        if edit.fact.answer == "refused":
            return False
        self.answers[edit.fact.question] = edit.fact.answer
        self.edited.append(edit.fact.question)
        if len(self.edited) > self.room:
            self.answers[self.edited.pop(0)] = "lost"
            self.answers["general 0?"] = "harmed"
        return True

    def mark(self) -> Callable[[], None]:
        kept, edited = dict(self.answers), list(self.edited)

        def back() -> None:
            self.answers, self.edited = dict(kept), list(edited)

        return back


@pytest.fixture
def stream() -> Stream:
    """Four edits, the second refused, the first with a hop; three general facts and one other."""
    general = [Fact(f"g/{place}", f"general {place}?", "yes") for place in range(3)]
    other = Fact("o/1", "other?", "held")
    facts = [Fact(f"e/{place}", f"edit {place}?", f"new {place}", held_out=(f"edited {place}?",)) for place in range(4)]
    facts[1] = replace(facts[1], answer="refused")
    edits = [StreamEdit(ADD, fact, "") for fact in facts]
    edits[0] = replace(edits[0], hop=Probe("hop?", ("far",), "kind"))
    return Stream([other], edits, [other], general)


def test_what_was_wrong_before_does_not_count_for_locality(stream):
    method = Table([stream.general[0], stream.others[0]])
    assert Watch(method, stream).kept == [stream.others[0], stream.general[0]]
    method.answers["general 1?"] = "yes"
    assert len(Watch(method, stream, fewer=2).kept) == 3


def test_edits_made_in_turn_are_counted(stream):
    method = Table([*stream.general, *stream.others], room=2)
    found = {size: counts for size, counts, _ in sequential_edits(method, stream, [1, 3, 4])}
    assert {size: counts.right["reliability"] for size, counts in found.items()} == {1: 1, 3: 2, 4: 2}
    assert {size: counts.asked["reliability"] for size, counts in found.items()} == {1: 1, 3: 3, 4: 4}
    assert found[3].right["locality"] == 4 and found[4].right["locality"] == 3  # the fourth edit harmed one
    assert found[4].right["generality"] == 0 and found[4].asked["generality"] == 4
    assert (found[4].right["portability"], found[4].asked["portability"]) == (0, 1)
    assert not [*sequential_edits(Table([]), stream, [])]
    *_, (_, _, times) = sequential_edits(Table([]), stream, [4])
    row = times.as_row()
    assert row["refused"] == 1 and row["cpu_seconds"] >= 0 and row["seconds"] <= row["seconds_p95"]


def test_edits_made_alone_are_taken_back(stream):
    method = Table([*stream.general, *stream.others, Fact("h", "hop?", "far"), Fact("p", "edited 2?", "new 2")], room=0)
    before = dict(method.answers)
    counts, times = single_edits(method, stream, 3, fewer=1)
    assert method.answers == before and len(times.seconds) == 3
    assert (counts.right["reliability"], counts.asked["reliability"]) == (0, 3)  # no room: lost at once
    assert (counts.right["generality"], counts.right["portability"]) == (1, 1)
    assert (counts.right["locality"], counts.asked["locality"]) == (4, 6)  # two edits each harm the general one
    assert math.isnan(counts.as_row()["teacher_forced"])


def test_teacher_forcing_asks_for_each_token_behind_the_true_ones(random_backbone, facts, full_precision):
    """Against one unpadded forward pass for every token."""
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    told = [replace(fact, answer=fact.answer[:3] + "VVV") for fact in facts]
    expected = []
    for fact in sorted(told, key=lambda fact: len(tokenizer(f"Q: {fact.question}\nA: {fact.answer}")["input_ids"])):
        prompt = tokenizer(f"Q: {fact.question}\nA:")["input_ids"]
        answer = tokenizer(f" {fact.answer}", add_special_tokens=False)["input_ids"]
        for place, token in enumerate(answer):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + answer[:place]])).logits
            expected.append(int(logits[0, -1].argmax()) == token)
    found = teacher_forced(model, tokenizer, told)
    assert sorted(found) == sorted(expected) and 0 < sum(found) < len(found)


# --- metrics, table and figure --------------------------------------------------------------------------------------


def row(method: str, seed: int, edits: int, **values: float) -> dict[str, Any]:
    given = {measure: values.get(measure, float("nan")) for measure in MEASURES}
    numbers = {f"{measure}_n": 8 if measure in values else 0 for measure in MEASURES}
    times = {"seconds": 0.5 + seed, "seconds_p95": 1.0, "cpu_seconds": 0.5, "refused": 0}
    return {"method": method, "backbone": "b", "seed": seed, "edits": edits, **given, **numbers, **times}


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    shares = {"reliability": 1.0, "generality": 0.5, "locality": 0.75, "portability": 0.0}
    mome = [row("mome", seed, edits, teacher_forced=1.0, **shares) for seed in (0, 1) for edits in (1, 10)]
    return [*mome, *(row("rag", seed, edits, reliability=0.5) for seed in (0, 1) for edits in (1, 10))]


def test_metrics_have_the_names_and_the_outcomes_behind_the_shares(rows):
    found = edit_metrics(pandas.DataFrame(rows), [1, 10])
    assert outcomes(pandas.DataFrame(rows[:2]), "locality") == [[1.0] * 6 + [0.0] * 2] * 2
    assert found["edit_locality_10_mome"].value == 0.75 and found["edit_locality_10_mome"].n == 16
    low, high = found["edit_generality_1_mome"].ci95 or (0.0, 0.0)
    assert 0.2 < low < 0.5 < high < 0.8
    assert found["edit_seconds_mome"].value == 1.0 and found["edit_seconds_mome"].unit == "s"
    assert "edit_teacher_forced_10_rag" not in found and "edit_locality_10_rag" not in found


def test_the_figure_shows_each_method_and_the_bars(rows):
    bars = {"reliability": 0.99, "locality": 0.995, "seconds": 2.0}
    figure = editing(edit_metrics(pandas.DataFrame(rows), [1, 10]), [1, 10], bars, "b")
    retention, measures, forced, seconds = figure.axes
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"paper: edited precisely", "MoME", "RAG update", "asked for"}
    assert retention.get_xscale() == "log"
    assert [patch.get_height() for patch in measures.patches][:4] == [1.0, 0.5, 0.75, 0.0]
    assert [label.get_text() for label in forced.get_xticklabels()] == ["MoME\n1 | 10", "RAG update\n1 | 10"]
    assert seconds.get_yscale() == "log" and seconds.get_ylabel().startswith("seconds")


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["table", "editing", *(str(argument) for argument in arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


@pytest.fixture
def made(monkeypatch, stream) -> list[tuple[str, int]]:
    """The runs that were made, of methods that answer from a dictionary."""
    runs: list[tuple[str, int]] = []

    def make(method: str, backbone: str, asked: Stream, plan: EditingPlan) -> Table:
        runs.append((method, plan.seed))
        return Table([*asked.general, *asked.others])

    monkeypatch.setattr(tables, "contender", make)
    monkeypatch.setattr(tables, "answered_facts", lambda backbone: [])
    monkeypatch.setattr(tables, "draw_stream", lambda known, unknown, edits, seed: stream)
    monkeypatch.setattr(tables, "SIZES", (1, 2, 4))
    return runs


def test_a_table_goes_on_from_what_it_holds(made, tmp_path: Path):
    out = tmp_path / "new" / "edits.csv"
    assert call(out, "--method", "mome", "--edits", 4, "--singles", 2, "--seeds", 2)[0] == 0
    assert call(out, "--method", "mome", "--method", "rome", "--edits", 4, "--seeds", 2)[0] == 0
    assert made == [("mome", 0), ("mome", 1), ("rome", 0), ("rome", 1)]
    found = pandas.read_csv(out).set_index(["method", "seed", "edits"])
    assert found.loc["mome"].index.tolist() == [(seed, edits) for seed in (0, 1) for edits in (1, 2, 4)]
    assert found.loc[("mome", 1, 4), "reliability"] == 0.75 and found.loc[("mome", 1, 4), "refused"] == 1
    expected = f"mome table editing {out} --method=mome --edits=4 --singles=2 --seeds=2 --backbone=tiny-llama"
    assert found.loc[("mome", 0, 1), "command"] == expected
    assert found["cpu"].notna().all() and found["commit"].notna().all()
    assert call(out, "--method", "rome", "--edits", 4, "--again")[0] == 0
    assert made[4:] == [("rome", 0)] and len(pandas.read_csv(out)) == len(found)


def test_a_run_is_measured_after_its_last_edit_too():
    assert (tables.sizes_up_to(1), tables.sizes_up_to(40), tables.sizes_up_to(1000)) == (
        [1],
        [1, 10, 40],
        [1, 10, 100, 1000],
    )


def test_a_table_refuses_what_cannot_be_made(tmp_path: Path, monkeypatch, stream):
    monkeypatch.setattr(tables, "answered_facts", lambda backbone: [])
    monkeypatch.setattr(tables, "draw_stream", lambda known, unknown, edits, seed: stream)
    code, output = call(tmp_path / "edits.csv", "--method", "memit", "--edits", 4)
    assert code == 2 and "error: method 'memit' is not one of" in output
    assert not list(tmp_path.iterdir())
