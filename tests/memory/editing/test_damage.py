"""Damaged, missing or foreign records of edits: every one is refused by the name of its file."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest
from old_formats import as_before_manifests
from tiny_editing import CAT, make_memory

from mome.adapter.saving.folder import UnvouchedWarning
from mome.facts.fact import Fact
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone
from mome.memory.editing.holdings import EditError
from mome.memory.editing.journal import Journal
from mome.memory.loading import edit_memory, load_memory, read_history


@pytest.fixture(scope="module")
def edited(
    random_backbone: Backbone, backbone_folder: Path, facts: list[Fact], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved adapter of the eight facts, with six edits."""
    folder = tmp_path_factory.mktemp("edited") / "adapter"
    make_memory(random_backbone, backbone_folder, facts).save(folder)
    with edit_memory(folder) as memory:
        for fact in facts[:3]:
            memory.delete(fact.id)
        memory.rollback(1)
        memory.delete(facts[4].id)
        memory.rollback(3)
    return folder


@pytest.fixture
def damaged(edited: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(edited, tmp_path / "damaged"))


def record(folder: Path, number: int) -> Path:
    return folder / "edits" / f"{number:06d}.safetensors"


def refused(folder: Path, named: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_memory(folder)
    assert str(caught.value).startswith(f"{named}: ")


def test_a_flipped_bit_or_a_torn_end_of_a_record_is_found_by_name(damaged: Path) -> None:
    draw, base = random.Random(0), journal_base(damaged)
    for number in (1, 3, 6):
        path, content = record(damaged, number), record(damaged, number).read_bytes()
        places = [draw.randrange(len(content)) for _ in range(20)]
        broken = [content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :] for at in places]
        for changed in (*broken, content[:-1], content[: len(content) // 2], b""):
            path.write_bytes(changed)
            with pytest.raises(CheckpointError) as caught:
                Journal(base, damaged / "edits")
            assert str(caught.value).startswith(f"{path}: ")
        path.write_bytes(content)
    assert len(Journal(base, damaged / "edits").edits) == 6


def journal_base(folder: Path) -> str:
    return hashlib.sha256((folder / "held.json").read_bytes()).hexdigest()


def test_the_removal_of_all_edits_is_noticed(damaged: Path) -> None:
    shutil.rmtree(damaged / "edits")
    refused(damaged, damaged / "edits" / "head.json")
    with pytest.raises(CheckpointError, match=r"edits/head\.json: missing, but this adapter was edited"):
        read_history(damaged)


@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_missing_record_is_found_by_name(damaged: Path, number: int) -> None:
    record(damaged, number).unlink()
    refused(damaged, record(damaged, number))


def test_records_of_another_order_or_adapter_are_refused(damaged: Path) -> None:
    shutil.copy(record(damaged, 2), record(damaged, 7))
    refused(damaged, record(damaged, 7))
    record(damaged, 7).rename(damaged / "edits" / "seven.safetensors")
    refused(damaged, damaged / "edits" / "seven.safetensors")
    (damaged / "edits" / "seven.safetensors").unlink()
    held = damaged / "held.json"
    held.write_text(json.dumps(json.loads(held.read_text()), indent=2))
    refused(damaged, held)
    as_before_manifests(damaged)
    refused(damaged, record(damaged, 1))


@pytest.mark.parametrize(
    "head", ["{", "[]", '{"edits": 6}', '{"edits": 6, "sha256": "0"}', '{"edits": 4, "sha256": "0"}']
)
def test_a_damaged_head_is_refused(damaged: Path, head: str) -> None:
    (damaged / "edits" / "head.json").write_text(head)
    with pytest.raises(CheckpointError, match="edits/"):
        load_memory(damaged)


def test_facts_that_are_not_those_of_the_bank_are_refused(damaged: Path) -> None:
    facts, held = damaged / "facts.jsonl", damaged / "held.json"
    content = facts.read_text()
    facts.write_text(content.replace("Lima", "Rome"))
    refused(damaged, facts)
    facts.unlink()
    refused(damaged, facts)
    facts.write_text(content)
    others = damaged / "strangers.safetensors"
    kept = others.read_bytes()
    others.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    refused(damaged, others)
    others.unlink()
    refused(damaged, others)
    others.write_bytes(kept)
    held.write_text(held.read_text().replace('"bank": "', '"bank": "0'))
    refused(damaged, held)
    held.unlink()
    refused(damaged, held)
    as_before_manifests(damaged)
    refused(damaged, held)


def test_an_adapter_without_its_facts_answers_and_is_not_edited(damaged: Path, facts: list[Fact]) -> None:
    shutil.rmtree(damaged / "edits")
    for name in ("held.json", "facts.jsonl"):
        (damaged / name).unlink()
    as_before_manifests(damaged)
    with pytest.warns(UnvouchedWarning, match="its files cannot be verified"):
        memory = load_memory(damaged)
    assert memory.ask(facts[0].question).text == facts[0].answer
    with pytest.raises(EditError, match="the facts of this adapter are not known"):
        memory.add(CAT)
    with pytest.raises(EditError, match=r"has no held\.json.*`mome tune` again"), edit_memory(damaged):
        raise AssertionError
