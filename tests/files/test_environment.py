"""Where runs keep their files, and that it is tried before work starts."""

import os
from pathlib import Path

import pytest

from mome.facts.fact import Fact
from mome.files.environment import refuse_unwritable_work, work_folder
from mome.memory.memorize import memorize


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    monkeypatch.delenv("MOME_HOME", raising=False)
    return tmp_path


def test_it_is_the_projects_or_the_chosen_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert work_folder() == project / "runs"
    monkeypatch.setenv("MOME_HOME", str(project / "elsewhere"))
    assert work_folder() == project / "elsewhere"
    refuse_unwritable_work()
    assert list((project / "elsewhere").iterdir()) == []


def test_a_project_that_cannot_be_written_leaves_it_to_the_users_cache(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: project / "cache" / name)
    assert work_folder() == project / "cache" / "mome"


def test_a_home_that_is_a_file_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "file").touch()
    monkeypatch.setenv("MOME_HOME", str(project / "file"))
    with pytest.raises(OSError, match=r"MOME_HOME is '.*file', which is not a folder"):
        work_folder()


def test_an_unwritable_work_folder_is_refused_before_a_backbone_is_loaded(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "file").touch()
    monkeypatch.setenv("MOME_HOME", str(project / "file" / "inside"))
    monkeypatch.setattr("mome.memory.memorize.load_backbone", None)
    with pytest.raises(OSError, match=r"the work folder cannot be written .*; set MOME_HOME to a folder"):
        memorize([Fact("bin", "When is bin day?", "Tuesday")])
