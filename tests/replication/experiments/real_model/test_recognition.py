"""Which questions a router recognizes, against a search by hand."""

from __future__ import annotations

import numpy
import pytest
import torch

from mome.adapter.queries import question_queries
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
