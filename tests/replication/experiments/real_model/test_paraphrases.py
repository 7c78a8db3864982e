"""Random answers in wordings that nobody tuned."""

from __future__ import annotations

import pytest

from mome.facts.templates import withheld_templates
from mome.replication.damage.sets import wordings_by_hand
from mome.replication.experiments.real_model import paraphrases
from mome.train.settings import MemorySettings, RouterSettings


def test_a_withheld_template_is_in_no_trained_wording():
    facts = paraphrases.asked_facts(40, "template_withheld", 3)
    templates = withheld_templates(3)
    for fact in facts:
        (held_out,) = fact.held_out
        assert held_out == templates[fact.relation].format(subject=fact.id.partition("/")[2])
        assert held_out not in fact.wordings() and len(fact.answer) == 32


def test_every_fact_has_a_wording_by_hand():
    facts = paraphrases.asked_facts(20, "shipped", 0)
    assert {fact.id for fact in facts} <= {item.fact for item in wordings_by_hand()}
    with pytest.raises(ValueError, match="only 200 have a wording by hand"):
        paraphrases.asked_facts(201, "shipped", 0)
    with pytest.raises(ValueError, match="training 'own' is not one of shipped, template_withheld"):
        paraphrases.asked_facts(4, "own", 0)


@pytest.mark.slow
def test_rows_count_exact_answers_by_wording(tmp_path, monkeypatch):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    monkeypatch.setattr(paraphrases, "RouterSettings", lambda seed: RouterSettings(objective="none", seed=seed))
    monkeypatch.setattr(paraphrases, "router_facts", lambda taken, seed: (_others(), _others(), []))
    monkeypatch.setattr(paraphrases, "AUGMENTED", {})
    monkeypatch.setattr(paraphrases, "MemorySettings", lambda **values: MemorySettings(**values | {"wordings": 1}))
    rows = {row["wording"]: row for row in paraphrases.table_rows(None, "tiny-llama", 3, "shipped", 0)}
    assert {"as_tuned", "held_out", "by_hand", "prose"} <= set(rows)
    assert rows["as_tuned"]["exact"] == 1 and rows["as_tuned"]["items"] == "111" and rows["as_tuned"]["n"] == 3


def _others():
    return paraphrases.asked_facts(60, "shipped", 0)[40:]
