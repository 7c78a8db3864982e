"""Retrieval against BM25 written out, prompts that fit, systems that fall back as told, and a table that goes on."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
from typer.testing import CliRunner, Result

from mome.adapter.queries import question_queries
from mome.cli import app
from mome.facts.fact import Fact
from mome.lm.loading import load_backbone
from mome.lm.prompts.form import QUESTION_ANSWER as PROMPT
from mome.replication.paper.text_to_sql import experiment as table
from mome.replication.paper.text_to_sql import metrics as text_to_sql_metrics
from mome.replication.paper.text_to_sql import systems
from mome.replication.paper.text_to_sql.database import (
    SPLITS,
    TUNED,
    asked,
    build_database,
    chosen,
    practice_pairs,
    workshop_pairs,
)
from mome.replication.paper.text_to_sql.examples import ANSWER_ROOM, Examples, practice_prompts
from mome.replication.paper.text_to_sql.systems import (
    COPY,
    ELSE_COPY,
    MOME,
    MOME_RAG,
    SYSTEMS,
    Contest,
    TextToSqlPlan,
    router_material,
)

ROOT = Path(__file__).parents[4]
PAIRS = [
    Fact("a", "How many jobs had rust?", "select 1", ("Count the jobs with rust.",)),
    Fact("b", "How many jobs came from Fenby?", "select 2", ("Count the jobs of Fenby.",)),
    Fact("c", "Which jobs got an X?", "select 3", ("List what was scrapped, with an X.",)),
]


def bm25(texts: list[str], question: str) -> list[float]:
    """Lucene's BM25 with k1 = 1.5 and b = 0.75, written out."""
    documents = [re.findall(r"\w+", text.lower()) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for word in re.findall(r"\w+", question.lower()):
            holding = sum(word in other for other in documents)
            weight = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            count = document.count(word)
            total += weight * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
        scores.append(total)
    return scores


@pytest.mark.parametrize("question", ["Which jobs had rust?", "What came from Fenby?", "an X", "nothing alike", "jobs"])
def test_examples_come_in_the_order_of_their_best_wording(question: str):
    owners = [pair for pair in PAIRS for _ in pair.wordings()]
    scores = bm25([text for pair in PAIRS for text in pair.wordings()], question)
    best = {pair.id: max(score for owner, score in zip(owners, scores, strict=True) if owner is pair) for pair in PAIRS}
    found = [pair.id for pair in Examples(PAIRS).nearest(question)]
    assert sorted(found) == ["a", "b", "c"]
    assert [best[name] for name in found] == pytest.approx(sorted(best.values(), reverse=True))
    assert [pair.id for pair in Examples(PAIRS).nearest(question, 2)] == found[:2]
    assert found[0] not in [pair.id for pair in Examples(PAIRS).nearest(question, leave_out=found[0])]


def test_the_score_of_a_pair_is_that_of_its_best_wording():
    for question in ("Which jobs had rust?", "an X"):
        single = bm25([text for pair in PAIRS for text in pair.wordings()], question)
        expected = [max(single[place : place + 2]) for place in range(0, len(single), 2)]
        assert Examples(PAIRS).scores(question).tolist() == pytest.approx(expected)
    for question in ("nothing alike", "?!", ""):  # no word that any pair has, or no word at all
        assert Examples(PAIRS).scores(question).tolist() == [0, 0, 0]
        assert Examples(PAIRS).nearest(question) == PAIRS


def test_a_prompt_shows_the_best_example_last_and_fits_the_context():
    tokenizer, examples = load_backbone("tiny-llama").tokenizer, Examples(PAIRS)
    full = examples.prompt(tokenizer, "How many jobs had rust?", 512)
    assert PROMPT.format(question=full).endswith(
        "Q: How many jobs had rust?\nA: select 1\nQ: How many jobs had rust?\nA:"
    )
    assert full.count("\nA: ") == 3
    room = len(tokenizer(PROMPT.format(question=full))["input_ids"]) + ANSWER_ROOM
    assert examples.prompt(tokenizer, "How many jobs had rust?", room) == full
    fewer = examples.prompt(tokenizer, "How many jobs had rust?", room - 1)
    assert full.endswith(fewer) and fewer.count("\nA: ") == 2
    assert examples.prompt(tokenizer, "How many jobs had rust?", 1) == "How many jobs had rust?"


def test_there_must_be_something_to_retrieve():
    with pytest.raises(ValueError, match="no pairs"):
        Examples([])


def test_practice_prompts_can_be_answered_by_reading_alone():
    tokenizer, pairs = load_backbone("tiny-llama").tokenizer, practice_pairs()[:66]
    prompts = practice_prompts(pairs, tokenizer, 512, 16, seed=3)
    by_id = {pair.id: pair for pair in pairs}
    assert len({prompt.id for prompt in prompts}) == 16
    examples = Examples(pairs)
    for prompt in prompts:
        pair = by_id[prompt.id.rpartition("/")[0]]
        plain = examples.prompt(tokenizer, pair.held_out[0], 512)
        # words are exchanged one for one, so what was equal is equal and what was not is not
        before, after = (
            re.findall(r"\w+|[^\w\s]", text) for text in (plain + pair.answer, prompt.question + prompt.answer)
        )
        assert len(set(zip(before, after, strict=True))) == len(set(before)) == len(set(after))
        kept = {word for word, other in zip(before, after, strict=True) if word == other and word.isalnum()}
        assert {"Q", "A"} <= kept and len(kept) <= 3
        assert (pair.answer in plain) == (prompt.answer in prompt.question)
    assert practice_prompts(pairs, tokenizer, 512, 16, seed=3) == prompts


def test_the_router_is_trained_on_nothing_that_is_held_out():
    parts = workshop_pairs()
    train, calibration = router_material(TextToSqlPlan().but(router_questions=100), parts[TUNED])
    own = {pair.question for split in SPLITS if split != TUNED for pair in asked(parts, split)}
    seen = {text for fact in train for text in fact.wordings()} | set(calibration)
    assert not own & seen
    assert len(calibration) == 25 and len(train) == 200 + len(parts[TUNED])
    assert not set(calibration) & {fact.question for fact in train}


@pytest.fixture(scope="module")
def plan() -> TextToSqlPlan:
    learning = {"epochs": 1, "stop_loss": None}
    return TextToSqlPlan().but(
        adapter={"rank": 2},
        reader=learning,
        lora=learning,
        practice=4,
        mome={"num_experts": 256, "top_k": 4},
        router={"steps": 2, "batch_size": 8},
        memory={"epochs": 1, "repairs": 0},
        router_questions=12,
    )


@pytest.fixture
def project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with the shipped questions."""
    (project / "data" / "text_to_sql").symlink_to(ROOT / "data" / "text_to_sql")
    monkeypatch.setattr(systems, "ANSWER_ROOM", 8)  # a random backbone writes as much as it may
    return project


@pytest.fixture
def contest(project: Path, backbone_folder: Path, plan: TextToSqlPlan) -> Contest:
    database = build_database(project / "workshop.sqlite")
    return Contest(str(backbone_folder), chosen(workshop_pairs(), 2, 2), plan, database)


def test_copying_gives_the_statement_of_the_nearest_wording(contest: Contest):
    tuned = asked(chosen(workshop_pairs(), 2, 2), TUNED)
    assert contest.sql(COPY, [pair.question for pair in tuned]) == [pair.answer for pair in tuned]


def test_memory_experts_answer_what_they_recognize_and_retrieval_the_rest(contest: Contest):
    tuned = chosen(workshop_pairs(), 2, 2)[TUNED]
    questions = [tuned[0].question, "What is the capital of Peru?", tuned[3].question]
    contest.answered = {(MOME, tuple(questions)): ["m0", "m1", "m2"], (COPY, tuple(questions)): ["r0", "r1", "r2"]}
    known = contest.recognized(questions)
    assert known[0] and known[2]
    joined = contest.sql(ELSE_COPY, questions)
    assert joined == [f"{'m' if found else 'r'}{place}" for place, found in enumerate(known)]


def test_without_a_null_key_everything_is_recognized_and_with_the_highest_only_what_was_tuned(contest: Contest):
    questions = [contest.pairs[0].question, "What is the capital of Peru?"]
    for highest, expected in ((None, [True, True]), (0.9999, [True, False])):
        contest.mome.model.base_model.set_min_score(highest)
        assert contest.recognized(questions) == expected


UNKNOWN = "Xyzzy, quux plugh?"  # no word of it stands in a tuned wording


def brute_force_pick(contest: Contest, question: str) -> Fact:
    """BM25 written out over the best of the question, plus half the highest cosine; one pair after another."""
    owned = [(pair.id, text) for pair in contest.pairs for text in pair.wordings()]
    scores = bm25([text for _, text in owned], question)
    model, tokenizer = contest.mome.model, contest.mome.tokenizer
    query = question_queries(model, tokenizer, [question])[0].double()
    best_sum, best_pair = -math.inf, contest.pairs[0]
    for pair in contest.pairs:
        share = max(score for (name, _), score in zip(owned, scores, strict=True) if name == pair.id)
        share /= max(scores) or 1
        wordings = question_queries(model, tokenizer, pair.wordings()).double()
        total = share + 0.5 * max(float(query @ wording) for wording in wordings)
        if total > best_sum + 1e-6:
            best_sum, best_pair = total, pair
    return best_pair


def test_the_pair_with_the_highest_sum_of_bm25_and_cosine_is_picked_and_recited(contest: Contest):
    tuned = contest.pairs
    questions = [tuned[0].question, tuned[3].phrasings[0], *(pair.held_out[0] for pair in tuned), UNKNOWN]
    picked = contest.picked(questions)
    assert picked[:2] == [tuned[0], tuned[3]]
    assert picked == [brute_force_pick(contest, question) for question in questions]
    recited = contest.sql(MOME, [pair.question for pair in picked])
    assert contest.sql(MOME_RAG, questions) == recited


@pytest.mark.parametrize(
    ("scores", "likeness", "expected"),
    [
        ((4.0, 2.0, 0.0, 0.0), (0.0, 0.9, 1.0, 0.0), 0),  # 1 against 0.95: BM25 decides
        ((4.0, 2.4, 0.0, 0.0), (0.0, 0.9, 1.0, 0.0), 1),  # 1 against 1.05: the router does
        ((4.0, 4.0, 4.0, 4.0), (0.1, 0.5, 0.5, 0.2), 1),  # of equal sums the first
        ((0.0, 0.0, 0.0, 0.0), (0.1, 0.2, 0.7, 0.3), 2),  # no word known: the router alone
        ((0.0, 0.0, 0.0, 0.0), (-0.5, -0.1, -0.2, -0.3), 1),
    ],
)
def test_the_sum_weighs_the_share_of_the_best_score_twice_the_cosine(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, scores: tuple, likeness: tuple, expected: int
):
    monkeypatch.setattr(Examples, "scores", lambda examples, question: numpy.array(scores, numpy.float32))
    monkeypatch.setattr(Contest, "_likeness", lambda contest, questions: numpy.array([likeness], numpy.float32))
    with numpy.errstate(all="raise"):
        assert contest.picked(["?"]) == [contest.pairs[expected]]


def test_an_unknown_system_is_refused_with_the_known_ones(contest: Contest):
    with pytest.raises(ValueError, match="system 'magic' is not one of backbone, rag_bare"):
        contest.sql("magic", ["?"])


@pytest.fixture
def command(
    project: Path, backbone_folder: Path, plan: TextToSqlPlan, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    few = chosen(workshop_pairs(), 1, 2)
    monkeypatch.setattr(table, "workshop_pairs", lambda: few)
    monkeypatch.setattr(table, "TextToSqlPlan", lambda: plan)
    return lambda *words: CliRunner().invoke(app, ["table", "text-to-sql", *(str(word) for word in words)])


def test_the_table_has_a_row_for_each_system_and_split_and_goes_on(
    command: Callable[..., Result], backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "table.csv"
    options = [path, "--backbone", backbone_folder]
    assert command(*options, "--system", COPY).exit_code == 0
    first = text_to_sql_metrics.read_table(path)
    assert command(*options).exit_code == 0
    found = text_to_sql_metrics.read_table(path)
    assert len(found) == len(SYSTEMS) * len(SPLITS)
    pandas.testing.assert_frame_equal(found[found["system"] == COPY].reset_index(drop=True), first)
    for row in found.to_dict("records"):
        assert row["accuracy"] == pytest.approx(row["outcomes"].count("1") / row["questions"])
        assert row["same_text"] <= row["accuracy"] <= 1 - row["errors"]
    monkeypatch.setattr(table, "contest_rows", lambda contest, parts, systems: iter([]) if not systems else 1 / 0)
    assert command(*options).exit_code == 0


def test_a_wrong_system_is_one_line(command: Callable[..., Result], tmp_path: Path):
    result = command(tmp_path / "table.csv", "--system", "magic")
    assert result.exit_code == 2
    assert "error: system 'magic' is not one of" in result.output
    assert not (tmp_path / "table.csv").exists()
