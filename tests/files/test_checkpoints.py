"""Checkpoint folders: exact round trips, and bad input refused before any work."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from numbered_checkpoints import load, members_of, names, number_of, save

from mome.files.checkpoints import read_checkpoint, read_folder, write_checkpoint, write_folder
from mome.files.sealed import CheckpointError

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # of a damaged checkpoint, or of a folder that stays

ONE = {"bank": {"rows": torch.ones(1)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "checkpoints"


# --- round trips ---------------------------------------------------------------------------------------------------


def test_every_kind_of_tensor_and_state_comes_back_unchanged(folder: Path) -> None:
    tensors = {
        "f32": torch.tensor([0.1, -0.0, float("inf"), float("nan"), 1e-45]),
        "bf16": torch.randn(3, 4).to(torch.bfloat16),
        "i64": torch.tensor([-(2**63), 2**63 - 1]),
        "transposed": torch.arange(6).view(2, 3).T,
        "scalar": torch.tensor(7.5),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    tensors |= {"alias": tensors["bf16"], "slice": tensors["bf16"][1:]}
    state = {"numbers": [1, 2.5, None, "ü", True], "best": float("inf"), "seconds": 0.1 + 0.2, "generator": 2**70}
    path = write_checkpoint(folder, 12, {"model.part-1": tensors, "nothing": {}}, state)
    found = read_checkpoint(folder)
    assert found is not None
    assert (found.step, found.state, found.path) == (12, state, folder / "step-000012")
    assert names(path) == ["manifest.json", "model.part-1.safetensors", "nothing.safetensors"]
    assert found.members["nothing"] == {}
    loaded = found.members["model.part-1"]
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        bits = [value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (loaded[name], tensor)]
        assert torch.equal(*bits), name


def test_the_manifest_says_what_any_tool_can_check(folder: Path) -> None:
    path = save(folder, 3)
    body = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["body"]
    assert body["step"] == 3
    for name, entry in body["members"].items():
        content = (path / f"{name}.safetensors").read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_newest_checkpoints_stay_and_others_go(folder: Path) -> None:
    assert read_checkpoint(folder) is None
    for step in (0, 5, 10, 999_999, 1_000_000):
        save(folder, step)
        assert load(folder) == (step, step)
    assert names(folder) == ["step-1000000", "step-999999"]
    save(folder, 1_000_001, keep=1)
    assert names(folder) == ["step-1000001"]


def test_other_files_of_the_folder_are_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("notes.txt", "step-12", "step-0000012", ".step-000001.new"):
        (folder / name).mkdir()
    assert read_checkpoint(folder) is None
    save(folder, 1, keep=1)
    save(folder, 2, keep=1)
    assert names(folder) == [".step-000001.new", "notes.txt", "step-0000012", "step-000002", "step-12"]


def test_a_single_folder_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "adapter" / "bank"
    with pytest.raises(FileNotFoundError, match="bank"):
        read_folder(path)
    for number in (1, 2):
        write_folder(path, members_of(number), {"number": number})
        assert number_of(*read_folder(path)) == number
    write_folder(path, {"other": {}}, {})
    assert read_folder(path) == ({"other": {}}, {})
    assert names(path.parent) == ["bank"]


# --- bad input, refused before any work ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "../bank", "/bank", "a/b", "a\\b", ".hidden", "bank\n", "a\0b"])
def test_a_member_name_that_is_no_plain_file_name_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(ValueError, match="no plain file name"):
        write_checkpoint(folder, 1, {name: {"rows": torch.ones(1)}}, {})
    assert not folder.parent.exists()


@pytest.mark.parametrize("state", [{1: "a"}, {"a": (1, 2)}, {"a": float("nan")}, {"a": torch.ones(1)}, {"a": {1}}, [1]])
def test_a_state_that_json_would_change_is_refused(state: dict, folder: Path) -> None:
    with pytest.raises(ValueError, match="state"):
        write_checkpoint(folder, 1, ONE, state)
    assert not folder.parent.exists()


@pytest.mark.parametrize("tensor", [[1.0], torch.eye(2).to_sparse()], ids=["list", "sparse"])
def test_what_is_no_dense_tensor_is_refused_by_name(tensor: object, folder: Path) -> None:
    with pytest.raises(ValueError, match="'bank', 'rows'"):
        write_checkpoint(folder, 1, {"bank": {"rows": tensor}}, {})  # type: ignore[dict-item]
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("step", "keep", "named"), [(-1, 2, "step"), (True, 2, "step"), (1.0, 2, "step"), (1, 0, "keep")]
)
def test_bad_numbers_are_refused_by_name(step: int, keep: int, named: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=named):
        write_checkpoint(folder, step, ONE, {}, keep)
    assert not folder.parent.exists()


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    write_folder(path, ONE, {})
    (path / "letter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match=r"letter\.txt"):
        write_folder(path, ONE, {})
    (path / "manifest.json").unlink()
    (path / "letter.txt").unlink()
    with pytest.raises(CheckpointError, match="bank"):
        write_folder(path, ONE, {})
    assert names(tmp_path) == ["home"]


def test_going_back_below_a_good_step_is_refused(folder: Path) -> None:
    """A reader would otherwise resume from the later step, silently."""
    save(folder, 7)
    with pytest.raises(CheckpointError, match="step-000007"):
        save(folder, 6)
    assert names(folder) == ["step-000007"]
