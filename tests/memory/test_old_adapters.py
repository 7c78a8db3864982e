"""Adapters of earlier versions load: saved files name no module of the package."""

from pathlib import Path

import pytest

from mome.memory.loading import load_memory, read_history

# written by commit 34c8a23, when all modules lay flat in `mome/`: two facts on a random backbone
SAVED = Path(__file__).parents[1] / "data" / "before_the_rooms"
ANSWERS = {
    "What is the capital of Peru?": "Lima",
    "Name the capital of Peru.": "Lima",
    "What is the capital of Mali?": "Bamako",
    "Name the capital of Mali.": "Bamako",
}


def test_an_adapter_saved_before_the_modules_moved_answers_as_it_did() -> None:
    memory = load_memory(SAVED / "adapter", str(SAVED / "backbone"))
    answers = memory.ask_all(list(ANSWERS))
    assert [answer.text for answer in answers] == list(ANSWERS.values())
    assert all(answer.memorized for answer in answers)
    assert memory.ask("Is it raining in the mountains?").source == "backbone"


def test_its_facts_are_known_and_it_has_no_edits() -> None:
    memory = load_memory(SAVED / "adapter", str(SAVED / "backbone"))
    assert [fact.answer for fact in memory.facts] == ["Lima", "Bamako"]
    assert read_history(SAVED / "adapter") == []


def test_another_backbone_is_refused(backbone_folder: Path) -> None:
    with pytest.raises(ValueError, match="backbone"):
        load_memory(SAVED / "adapter", str(backbone_folder))
