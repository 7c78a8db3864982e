"""Damaged and forged checkpoint folders: every one is refused by the name of its bad file."""

import hashlib
import os
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch
from numbered_checkpoints import load, members_of, names, number_of, save

from mome.files import sealed
from mome.files.checkpoints import read_checkpoint, read_folder, write_folder
from mome.files.sealed import CheckpointError

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # of a damaged checkpoint, or of a folder that stays

ONE = {"bank": {"rows": torch.ones(1)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "checkpoints"


# --- damage --------------------------------------------------------------------------------------------------------


def flip(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def assert_refused(path: Path, named: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_folder(path)
    assert str(caught.value).startswith(f"{named}: ")


def header_length(path: Path) -> int:
    return 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]


def test_one_flipped_bit_anywhere_is_found_by_name(tmp_path: Path) -> None:
    """Every bit of the manifest; one bit of every byte of each header, and of 200 places of its data."""
    path = write_folder(tmp_path / "bank", members_of(7), {"number": 7, "text": 'ü "quoted" \\', "best": float("inf")})
    generator = random.Random(0)
    places = [
        (path / "manifest.json", place, bit)
        for place in range((path / "manifest.json").stat().st_size)
        for bit in range(8)
    ]
    for file in sorted(path.glob("*.safetensors")):
        header, size = header_length(file), file.stat().st_size
        spread = [*range(header), *(generator.randrange(header, size) for _ in range(198)), header, size - 1]
        places += [(file, place, generator.randrange(8)) for place in spread]
    for file, place, bit in places:
        flip(file, place, bit)
        assert_refused(path, file)
        flip(file, place, bit)
    assert len({file for file, _, _ in places}) == len(names(path)) == 3
    assert number_of(*read_folder(path)) == 7


def test_truncated_lengthened_and_missing_files_are_found_by_name(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", members_of(7), {"number": 7})
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        for damaged in (b"", content[:1], content[: len(content) // 2], content[:-1], content + b"\n", None):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            assert_refused(path, file)
        file.write_bytes(content)
    assert number_of(*read_folder(path)) == 7


def test_a_file_of_another_length_is_named_with_both_lengths(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", ONE, {})
    size = (path / "bank.safetensors").stat().st_size
    os.truncate(path / "bank.safetensors", size - 1)
    with pytest.raises(CheckpointError, match=rf"bank\.safetensors: {size - 1} bytes, manifest\.json says {size}"):
        read_folder(path)


def test_an_unknown_member_is_found_by_name(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", members_of(7), {"number": 7})
    shutil.copy(path / "bank.safetensors", path / "bank2.safetensors")
    assert_refused(path, path / "bank2.safetensors")


def test_members_of_two_checkpoints_do_not_mix(folder: Path) -> None:
    one, two = save(folder, 1), save(folder, 2)
    shutil.copy(one / "bank.safetensors", two / "bank.safetensors")
    with pytest.warns(UserWarning, match=r"step-000002/bank\.safetensors"):
        assert load(folder) == (1, 1)


def test_a_renamed_checkpoint_is_not_taken_for_a_later_one(folder: Path) -> None:
    save(folder, 1)
    shutil.copytree(folder / "step-000001", folder / "step-000009")
    with pytest.warns(UserWarning, match=r"step-000009/manifest\.json.*step 1, not for step 9"):
        assert load(folder) == (1, 1)


@pytest.mark.parametrize("name", ["manifest.json", "bank.safetensors", "optimizer.safetensors"])
def test_a_bad_checkpoint_is_named_and_the_next_older_taken(name: str, folder: Path) -> None:
    for step in (1, 2, 3):
        save(folder, step, keep=3)
    flip(folder / "step-000003" / name, 40, 3)
    with pytest.warns(UserWarning, match=f"step-000003/{name}"):
        assert load(folder) == (2, 2)
    (folder / "step-000002" / name).unlink()
    with pytest.warns(UserWarning) as warned:
        assert load(folder) == (1, 1)
    for warning, step in zip(warned, (3, 2), strict=True):
        assert f"step-00000{step}/{name}: " in str(warning.message)
    (folder / "step-000001" / name).write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    for step in (1, 2, 3):
        assert f"step-00000{step}/{name}" in str(caught.value)


def test_training_goes_on_over_a_bad_checkpoint(folder: Path) -> None:
    """The good ones stay newest among those that count, and the bad one is replaced when its step comes again."""
    for step in (1, 3):
        save(folder, step)
    flip(folder / "step-000003" / "bank.safetensors", 300, 0)
    save(folder, 2, keep=1)
    with pytest.warns(UserWarning, match="step-000003"):
        assert load(folder) == (2, 2)
    save(folder, 3, number=33, keep=1)
    assert load(folder) == (3, 33)
    assert names(folder) == ["step-000003"]


# --- manifests made to deceive -------------------------------------------------------------------------------------


def forge(path: Path, members: dict, step: int | None = None, **other: object) -> None:
    """A manifest whose own sha256 is right."""
    body = {"format": 1, "step": step, "members": members, "state": {}, **other}
    (path / "manifest.json").write_bytes(sealed.render(body))


def entry(path: Path) -> dict:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("name", ["../outside", "{parent}/outside", "sub/outside", "..", ""])
def test_a_manifest_cannot_name_a_file_elsewhere(name: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", ONE, {})
    name = name.format(parent=tmp_path)
    shutil.copy(path / "bank.safetensors", tmp_path / "outside.safetensors")
    known = entry(tmp_path / "outside.safetensors")
    forge(path, {"bank": known})
    assert torch.equal(read_folder(path)[0]["bank"]["rows"], torch.ones(1)), "the forgery itself has to be accepted"
    forge(path, {"bank": known, name: known})
    with pytest.raises(CheckpointError, match=r"manifest\.json: names a member .* no plain file name"):
        read_folder(path)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", ONE, {})
    torch.save(Touch(tmp_path / "executed"), path / "bank.safetensors")
    forge(path, {"bank": entry(path / "bank.safetensors")})
    assert_refused(path, path / "bank.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "changed",
    [{"format": 2}, {"members": [1]}, {"members": {"a": {}}}, {"members": {"a": 1}}, {"state": None}],
    ids=str,
)
def test_a_manifest_of_another_kind_is_refused(changed: dict, tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", ONE, {})
    forge(path, **{"members": {}, **changed})
    assert_refused(path, path / "manifest.json")


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"body": 1}', b"\xff", b"[" * 100_000], ids=range(6))
def test_a_file_that_is_no_manifest_is_refused(content: bytes, tmp_path: Path) -> None:
    path = write_folder(tmp_path / "bank", ONE, {})
    (path / "manifest.json").write_bytes(content)
    assert_refused(path, path / "manifest.json")
