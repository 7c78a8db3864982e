"""A folder with files that are not an adapter's of ours is refused before any work, and nothing in it changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mome.adapter.saving.folder import AdapterError
from mome.adapter.saving.ownership import foreign_files, own_names, refuse_place
from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.files.checkpoints import write_checkpoint
from mome.files.folders import keep
from mome.files.locking import BusyError, locked_folder
from mome.files.snapshots import save_snapshot
from mome.memory.loading import load_memory
from mome.memory.memorize import memorize_file, memorize_file_with_lora
from mome.memory.memory import Memory

FACTS = [Fact("tea", "When is tea?", "at four"), Fact("bin", "When is the bin emptied?", "on Tuesday")]


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded."""
    monkeypatch.setattr("mome.memory.memorize.load_backbone", None)


def write(*parts: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine\n")

    return put


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("put", "named"),
    [
        (write("facts.jsonl"), "facts.jsonl"),
        (write("README.md"), "README.md"),
        (write("adapter_config.json"), "adapter_config.json"),
        (write("adapter_model.safetensors"), "adapter_model.safetensors"),
        (write("manifest.json"), "manifest.json"),
        (write("held.json"), "held.json"),
        (write("snapshot.safetensors"), "snapshot.safetensors"),
        (write("bank", "account.txt"), "bank"),
        (write("checkpoints", "epoch-3.pt"), "checkpoints"),
        (write("checkpoints", "step-000001", "model.pt"), "checkpoints"),
        (write("edits", "draft.txt"), "edits"),
        (write(".git", "HEAD"), ".git"),
        (write("photo.jpg"), "photo.jpg"),
    ],
)
@pytest.mark.parametrize("lora", [False, True], ids=["mome", "lora"])
def test_a_folder_with_files_of_the_user_is_refused_before_training(
    put: Callable[[Path], None], named: str, lora: bool, no_backbone: None, memory: Memory, tmp_path: Path
) -> None:
    write_jsonl(FACTS, tmp_path / "new.jsonl")
    out = tmp_path / "project"
    out.mkdir()
    put(out)
    before = contents(out)
    with pytest.raises(ValueError, match=f"project.*{named}") as caught:
        if lora:
            memorize_file_with_lora(tmp_path / "new.jsonl", out, "tiny-llama", {}, 8)
        else:
            memorize_file(tmp_path / "new.jsonl", out, "tiny-llama", {}, {}, {})
    assert "\n" not in str(caught.value) and contents(out) == before
    with pytest.raises(AdapterError, match=f"project.*{named}"):
        memory.save(out)
    assert contents(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["new.jsonl", "project"]


@pytest.mark.parametrize("put", [write("notes.txt"), write("edits", "mine.txt"), write("bank", "mine.txt")])
def test_a_file_of_the_user_inside_an_adapter_is_not_lost(
    put: Callable[[Path], None], folder: Path, memory: Memory
) -> None:
    put(folder)
    before = contents(folder)
    with pytest.raises(AdapterError, match="not of an adapter of this version, and would be lost"):
        memory.save(folder)
    assert contents(folder) == before


def test_facts_that_a_user_has_changed_are_his(folder: Path, memory: Memory) -> None:
    write_jsonl(FACTS, folder / "facts.jsonl")
    with pytest.raises(AdapterError, match=r"facts\.jsonl: was changed since it was saved, and would be lost"):
        memory.save(folder)


def test_an_adapter_of_ours_is_replaced_even_if_damaged_and_keeps_its_readme_and_checkpoints(
    folder: Path, memory: Memory, facts: list[Fact]
) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nKept for the club.\n")
    write_checkpoint(folder / "checkpoints", 3, {}, {})
    assert foreign_files(folder) == []
    memory.save(folder)
    assert load_memory(folder).ask(facts[0].question).text == facts[0].answer
    assert "Kept for the club." in (folder / "README.md").read_text()
    assert (folder / "checkpoints" / "step-000003" / "manifest.json").is_file()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["adapter"]


def test_working_files_of_an_interrupted_run_are_ours(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "out" / "checkpoints", 0, {}, {})
    (tmp_path / "out" / "checkpoints" / ".step-000001.7.0123abcd.0.new").mkdir()
    save_snapshot(tmp_path / "out" / "snapshot.safetensors", {}, {"config": {}})
    assert foreign_files(tmp_path / "out") == [] == foreign_files(tmp_path / "nowhere")


def test_an_adapter_of_an_earlier_version_is_known_by_its_facts(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert foreign_files(folder) == [] and "README.md" not in own_names(folder)
    held = json.loads((folder / "held.json").read_text())
    (folder / "held.json").write_text(json.dumps({**held, "bank": "0"}))
    assert "facts.jsonl" in foreign_files(folder) and own_names(folder) == set()


def test_places_that_cannot_be_replaced_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "inner")
    for place, what in (
        (Path("."), "is the current folder"),
        (Path(".."), "holds the current folder"),
        (Path("/"), "holds"),
    ):
        with pytest.raises(AdapterError, match=what):
            refuse_place(place)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(AdapterError, match="is your home folder"):
        refuse_place(tmp_path / "home")
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "volume")
    with pytest.raises(AdapterError, match=r"is a mount point.*volume/adapter"):
        refuse_place(tmp_path / "volume")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/adapter: cannot be written"):
        refuse_place(tmp_path / "file" / "adapter")
    refuse_place(tmp_path / "new" / "folder" / "adapter")
    assert not (tmp_path / "new").exists()


def test_a_link_to_a_folder_stays_a_link(saved: Path, memory: Memory, tmp_path: Path, facts: list[Fact]) -> None:
    shutil.copytree(saved, tmp_path / "version-1")
    (tmp_path / "adapter").symlink_to("version-1")
    memory.save(tmp_path / "adapter")
    assert (tmp_path / "adapter").is_symlink()
    assert load_memory(tmp_path / "adapter").facts == facts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "version-1"]


def test_one_writer_at_a_time(folder: Path, memory: Memory, no_backbone: None, tmp_path: Path) -> None:
    write_jsonl(FACTS, tmp_path / "new.jsonl")
    (tmp_path / "same").symlink_to(folder)
    with locked_folder(folder):
        for out in (folder, tmp_path / "same"):
            with pytest.raises(BusyError, match="another process is writing this adapter"):
                memorize_file(tmp_path / "new.jsonl", out, "tiny-llama", {}, {}, {})
            with pytest.raises(BusyError, match="another process is writing this adapter"):
                memory.save(out)
            with pytest.raises(BusyError, match="another process is writing this adapter"):
                memory.backbone.model.save_pretrained(out)
    memory.save(folder)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_files_are_kept_by_links_and_never_overwritten(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old / "part", new):
        folder.mkdir(parents=True)
    (old / "part" / "file").write_text("old")
    (old / "both").write_text("old")
    (new / "both").write_text("new")
    (old / "gone").write_text("old")
    (old / "link").symlink_to("both")
    keep(old, new, {"gone"})
    assert sorted(path.name for path in new.iterdir()) == ["both", "link", "part"]
    assert (new / "both").read_text() == "new" and (new / "link").is_symlink()
    assert (new / "part" / "file").samefile(old / "part" / "file")
