"""Which questions a router recognizes, against a search by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy
import pytest
import torch

from mome.adapter.queries import question_queries
from mome.facts.typing_variations import trained_typings
from mome.lm.loading import load_backbone
from mome.replication.experiments.material import gather
from mome.replication.experiments.real_model import recognition
from mome.train.attach import routed_backbone
from mome.train.settings import RouterSettings


@pytest.fixture
def root(small_root, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MOME_ROOT", str(small_root))
    monkeypatch.setenv("MOME_HOME", str(tmp_path))


@pytest.fixture
def routed(root, backbone_folder):
    config = recognition.MomeConfig(num_experts=64, top_k=2, layers_to_transform=None)
    backbone = load_backbone(str(backbone_folder))
    return routed_backbone(backbone, config, RouterSettings(objective="none"), gather(8, 0, 4, 60, 4).others, 0)[0]


def test_a_paraphrase_counts_only_if_its_own_fact_is_nearest(routed, monkeypatch):
    monkeypatch.setattr(recognition, "BLOCK", 3)  # more than one block
    facts = gather(8, 0, 4, 60, 4).facts
    seen = recognition.Seen(routed, facts)
    right = []
    for fact in facts:
        (asked,) = question_queries(routed.model, routed.tokenizer, [fact.held_out[0]])
        cosines = {
            (other.id, text): float(torch.dot(asked, question_queries(routed.model, routed.tokenizer, [text])[0]))
            for other in facts
            for text in other.wordings()
        }
        right.append(max(cosines, key=cosines.__getitem__)[0] == fact.id)
    assert seen.right.tolist() == right
    assert seen.recognized(-1.0).tolist() == right and not seen.recognized(1.1).any()


def test_a_stored_question_has_the_similarity_one(routed):
    facts = gather(8, 0, 4, 60, 4).facts
    assert numpy.allclose(recognition.Seen(routed, facts).scores([facts[3].question]), 1, atol=1e-4)


# --- the router "crossed" ------------------------------------------------------------------------------------------


def test_the_recipe_adds_typed_variations_and_crossed_facts(root, monkeypatch):
    monkeypatch.setattr(recognition, "CROSSED_FACTS", 12)
    others = gather(8, 0, 4, 60, 4).others
    learned, settings = recognition.crossed_recipe(others, seed=3)
    assert settings == RouterSettings(steps=1_500, batch_size=128, learning_rate=1e-2, seed=3)
    typed, crossed = learned[: len(others)], learned[len(others) :]
    for fact, other in zip(typed, others, strict=True):
        assert fact.wordings() == [*other.wordings(), *trained_typings(other.question, 2, 3)]
    assert 6 <= len(crossed) <= 12 and all(fact.id.startswith("crossed/") for fact in crossed)


def test_rows_of_the_crossed_router_are_measured_without_and_with_the_check(routed, monkeypatch):
    material, learned = gather(8, 0, 4, 60, 4), []
    monkeypatch.setattr(recognition, "gather", lambda *_, absent: material)
    monkeypatch.setattr(recognition, "asked_backbone", lambda name: None)
    monkeypatch.setattr(
        recognition,
        "routed_backbone",
        lambda *given: learned.append(given[3]) or (routed, SimpleNamespace(seconds=1.0)),
    )
    rows = list(recognition.table_rows(None, "tiny", [8], 0, "crossed"))
    assert [(row["least_names"], row["promised"]) for row in rows] == [
        *((0.0, rate) for rate in (0.002, 0.005, 0.01)),
        *((0.8, rate) for rate in (0.002, 0.005, 0.01)),
    ]
    assert list(rows[0])[:5] == recognition.CROSSED_KEY and len(learned[0]) > len(material.others)
    seen = recognition.Seen(routed, material.facts)
    for row in rows:
        checked = seen.checked(row["least_names"] or None)
        assert row["recognized"] == checked.recognized(row["threshold"]).mean()
        absent = checked.scores([fact.question for fact in material.absent])
        assert row["absent_taken"] == (absent >= row["threshold"]).mean()
    plain = list(recognition.table_rows(None, "tiny", [8], 0))
    assert learned[1] is material.others
    assert [{**row, "least_names": 0.0} for row in plain] == [rows[0], rows[2]]


def test_the_check_of_names_passes_a_stored_question_and_not_another_name(routed):
    facts = gather(8, 0, 4, 60, 4).facts
    seen = recognition.Seen(routed, facts).checked(1.0)
    scores = seen.scores([facts[3].question, "What is it?"])
    assert scores[0] == pytest.approx(1, abs=1e-4) and scores[1] == -1


def test_a_table_of_the_other_router_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("backbone,facts,promised,seed\n")
    with pytest.raises(ValueError, match=r"table\.csv: holds rows of another router than 'crossed'"):
        next(recognition.table_rows(table, "tiny", [8], 0, "crossed"))
    table.write_text("backbone,facts,promised,seed,least_names\n")
    with pytest.raises(ValueError, match=r"table\.csv: holds rows of another router than 'plain'"):
        next(recognition.table_rows(table, "tiny", [8], 0))
    with pytest.raises(ValueError, match="--router late: must be one of plain, crossed"):
        next(recognition.table_rows(None, "tiny", [8], 0, "late"))
