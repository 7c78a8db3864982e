"""The wheel holds the whole package: built from the sources, put into an empty folder, imported to the last module."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "mome", "kernels")
IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import mome
assert pathlib.Path(mome.__file__).is_relative_to(sys.argv[1]), mome.__file__
missing = []
names = [found.name for found in pkgutil.walk_packages(mome.__path__, "mome.")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.append(f"{name}: {error.name}")
print(len(names), *missing, sep="\\n")
"""
# what only the extras of pyproject.toml install
EXTRAS = {"faiss", "lm_eval"}


def run(*command: object, **settings: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    done = subprocess.run(
        [*map(str, command)], env=environment, cwd="/", capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left beside the sources; nothing is downloaded."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out, source)
    (found,) = out.glob("mome-*.whl")
    return found


def test_the_wheel_has_every_module_and_the_marker_of_types(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {f"mome/{name}" for name in python_files(ROOT / "mome")}
    kernels = {f"mome/kernels/{name}" for name in python_files(ROOT / "kernels" / "mome_kernels")}
    assert {name for name in names if name.endswith(".py")} == modules | kernels
    assert {"mome/py.typed", "mome/facts/common_words.csv"} <= names


@pytest.mark.slow
def test_everything_in_the_wheel_can_be_imported(wheel: Path, tmp_path: Path):
    target = tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--target", target, wheel)
    count, *missing = run(sys.executable, "-c", IMPORT_ALL, target, PYTHONPATH=str(target)).splitlines()
    assert int(count) > 200
    assert not [line for line in missing if line.rpartition(": ")[2].partition(".")[0] not in EXTRAS]


def test_the_command_is_in_the_wheel(wheel: Path):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(entry).decode()
    assert all(f"{name} = {target}" in text for name, target in scripts.items())
