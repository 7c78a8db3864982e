"""Two `make setup` in one checkout set up one after the other: the later one finds nothing left to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("flock")), reason="needs make and flock")
def test_two_setups_at_the_same_time_make_one_environment(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit\nmkdir -p .venv\necho made >> log\nsleep 1\n', "utf-8")
    python.chmod(0o755)
    command = ["make", "setup", "PYTHON=./python", "INSTALL=true"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert (tmp_path / "log").read_text("utf-8") == "made\n"
    assert (tmp_path / ".venv" / ".stamp-cpu").is_file()
    wrong = [*command, "INSTALL=false", "TORCH=cuda"]
    refused = subprocess.run(wrong, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert refused.returncode == 2
    assert not (tmp_path / ".venv" / ".stamp-cuda").exists()
