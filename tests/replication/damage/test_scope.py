"""Which out-of-scope texts memory experts recognize."""

from pathlib import Path

import pytest
from public_files import write_files
from tiny_memory import learn, memorize, memory_model

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.replication.damage.scope import out_of_scope, recognized


def test_memorized_questions_are_recognized(random_backbone: Backbone, facts: list[Fact]) -> None:
    model = memory_model(random_backbone)
    learn(model, random_backbone, facts)
    memorize(model, random_backbone, facts)
    attached = Backbone("experts", model, random_backbone.tokenizer)
    texts = {"stored": [(fact.id, fact.question) for fact in facts], "other": [("1", "Is it raining?")]}
    table = recognized(attached, texts)
    assert table["set"].tolist() == ["stored"] * len(facts) + ["other"]
    assert table["item"].tolist() == [*(fact.id for fact in facts), "1"]
    assert table.loc[table["set"] == "stored", "recognized"].all()


def test_a_backbone_without_experts_is_refused(random_backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="no memory experts"):
        recognized(random_backbone, {"stored": [("1", "Why?")]})


def test_the_sets_leave_memorized_questions_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(write_files(tmp_path)))
    found = out_of_scope(["Who wrote it?"])
    assert list(found) == ["truthfulqa", "mmlu", "lambada", "small_talk"]
    assert sorted(text for _, text in found["truthfulqa"]) == ["Do pigs fly?", "How old is 007?"]
    assert (len(found["lambada"]), len(found["small_talk"])) == (300, 200)
