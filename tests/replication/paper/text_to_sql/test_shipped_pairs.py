"""The shipped question-SQL pairs: enough, distinct, answerable, reproduced by their script, short enough to read."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

import pytest
import torch

from mome.facts.fact import Fact
from mome.facts.readers import check_facts
from mome.lm.encoding import encode_question
from mome.lm.loading import load_backbone
from mome.replication.paper.text_to_sql.database import (
    PHRASINGS,
    SHAPES,
    TUNED,
    VALUES,
    asked,
    build_database,
    chosen,
    data_folder,
    practice_pairs,
    shape_of,
    workshop_pairs,
)
from mome.replication.paper.text_to_sql.examples import ANSWER_ROOM
from mome.replication.paper.text_to_sql.execution import run_sql

MADE = ("workshop.sql", "pairs.jsonl", "practice.jsonl")


@pytest.fixture(scope="module")
def parts() -> dict[str, list[Fact]]:
    return workshop_pairs()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("workshop") / "workshop.sqlite")


def test_there_are_enough_pairs_shapes_and_wordings(parts: dict[str, list[Fact]]):
    assert set(parts) == {TUNED, VALUES, SHAPES}
    assert len(parts[TUNED]) >= 200
    assert len({shape_of(pair) for pair in parts[TUNED]}) >= 25
    for pair in (*parts[TUNED], *parts[VALUES], *parts[SHAPES], *practice_pairs()):
        assert (len(pair.phrasings), len(pair.held_out)) == (2, 1)


def test_the_files_are_what_the_script_makes(tmp_path: Path):
    folder = tmp_path / "text_to_sql"
    shutil.copytree(data_folder(), folder)
    for name in MADE:
        (folder / name).unlink()
    subprocess.run([sys.executable, str(folder / "compile.py")], check=True, timeout=120)
    for name in MADE:
        assert (folder / name).read_bytes() == (data_folder() / name).read_bytes(), name


def test_no_wording_and_no_statement_occurs_twice(parts: dict[str, list[Fact]]):
    pairs = [pair for group in parts.values() for pair in group]
    check_facts([*pairs, *practice_pairs()])
    assert max(Counter(text for pair in pairs for text in pair.all_wordings()).values()) == 1
    assert max(Counter(pair.answer for pair in pairs).values()) == 1


def test_the_parts_are_apart(parts: dict[str, list[Fact]]):
    shapes = {name: {shape_of(pair) for pair in pairs} for name, pairs in parts.items()}
    assert shapes[VALUES] == shapes[TUNED]
    assert not shapes[SHAPES] & shapes[TUNED]
    shown = {text for pair in parts[TUNED] for text in pair.wordings()}
    for split in (PHRASINGS, VALUES, SHAPES):
        assert not shown & {pair.question for pair in asked(parts, split)}, split
    assert {pair.question for pair in asked(parts, TUNED)} <= shown


def test_no_other_value_makes_a_held_out_wording_a_tuned_one(parts: dict[str, list[Fact]]):
    """The held-out wording of a shape is trained with no value at all."""
    for group in _by_shape(parts[TUNED]).values():
        tuned = {_frame(text, group) for pair in group for text in pair.wordings()}
        assert not tuned & {_frame(pair.held_out[0], group) for pair in group}


def test_every_statement_answers_within_the_limits(parts: dict[str, list[Fact]], database: Path):
    results = defaultdict(list)
    for pair in (pair for group in parts.values() for pair in group):
        rows = run_sql(database, pair.answer).rows
        assert rows and rows not in ([(None,)], [(0,)]), pair.id
        results[shape_of(pair)].append(json.dumps(rows))
    alike = sum(count for rows in results.values() for count in Counter(rows).values() if count > 1)
    assert alike <= 0.05 * sum(map(len, results.values()))  # a wrong value seldom gives the right result


def test_the_foreign_keys_hold(database: Path):
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_the_shipped_backbones_can_write_every_statement(name: str, parts: dict[str, list[Fact]]):
    tokenizer = load_backbone(name).tokenizer
    for pair in (pair for group in (*parts.values(), practice_pairs()) for pair in group):
        row = encode_question(tokenizer, pair.question, pair.answer)
        written = row.ids[-row.answer_tokens : -1]
        assert tokenizer.decode(written).strip() == pair.answer
        assert row.answer_tokens <= ANSWER_ROOM


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_no_statement_needs_a_token_that_pretraining_never_showed(name: str, parts: dict[str, list[Fact]]):
    """Such tokens share one output embedding: a frozen head cannot tell them apart."""
    backbone = load_backbone(name)
    pairs = [pair for group in parts.values() for pair in group]
    rows = [encode_question(backbone.tokenizer, pair.question, pair.answer) for pair in pairs]
    used = {token for row in rows for token in row.ids[-row.answer_tokens :]}
    head = torch.nn.functional.normalize(backbone.model.get_output_embeddings().weight, dim=1)
    alike = head @ head.T - 2 * torch.eye(len(head))
    twins = (alike.max(dim=1).values > 0.99).nonzero().flatten().tolist()
    assert set(backbone.tokenizer.encode("=*<", add_special_tokens=False)) <= set(twins)
    assert not used & set(twins)


def test_a_choice_takes_the_first_shapes_and_values(parts: dict[str, list[Fact]]):
    few = chosen(parts, shapes=2, values=3)
    assert [pair.id for pair in few[TUNED]] == [
        f"town_{name}/{n}" for name in ("customers", "accounts") for n in range(3)
    ]
    assert len(few[VALUES]) == 4 and len(few[SHAPES]) == 6
    assert chosen(parts, None, None) == parts


def _by_shape(pairs: list[Fact]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for pair in pairs:
        found.setdefault(shape_of(pair), []).append(pair)
    return found


def _frame(text: str, group: list[Fact]) -> tuple[str, ...]:
    """The words of a wording that are in some wording of every pair of its shape: what is not the value."""
    every = [{word for wording in pair.all_wordings() for word in wording.split()} for pair in group]
    return tuple(word for word in text.split() if all(word in words for words in every))
