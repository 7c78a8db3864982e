"""The files on which faults are tried are made: a tiny random backbone, a small project, adapters of a few facts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from warnings import catch_warnings, simplefilter

import torch

from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.facts.shipped import shipped_facts
from mome.files.environment import HOME_VARIABLE, ROOT_VARIABLE, repository_root
from mome.memory.loading import edit_memory, load_memory
from mome.memory.memorize import memorize_file
from mome.replication.faults.ground import NEW, OLD, answers, copied
from mome.replication.pretraining.pretrain import build_model, train_tokenizer
from mome.replication.pretraining.settings import PRETRAINING

EXPERTS = {"num_experts": 4096, "top_k": 8, "target_modules": ["gate_proj", "down_proj"]}
ROUTER = {"steps": 20, "batch_size": 16, "learning_rate": 1e-2}
MEMORY = {"batch_size": 4}
# one in this many shipped facts is used to train the router and to set the rejection threshold
EVERY = 200


@contextmanager
def small_project() -> Iterator[Path]:
    """A folder, and in it a project with few facts and its own work folder, for this process and its children."""
    before = {name: os.environ.get(name) for name in (ROOT_VARIABLE, HOME_VARIABLE)}
    with TemporaryDirectory(prefix="mome-faults-") as name:
        folder = Path(name).resolve()
        _write_facts(folder / "project" / "data" / "facts")
        os.environ |= {ROOT_VARIABLE: str(folder / "project"), HOME_VARIABLE: str(folder / "work")}
        try:
            yield folder
        finally:
            for variable, value in before.items():
                os.environ.pop(variable)
                if value is not None:
                    os.environ[variable] = value


def _write_facts(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("known", "unknown"):
        lines = (repository_root() / "data" / "facts" / f"{name}.jsonl").read_text("utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[::EVERY]), "utf-8")


def make_backbone(folder: Path) -> Path:
    """A random Llama of hidden size 32 with two layers, in `folder`/backbone."""
    texts = [f"{fact.question} {fact.answer}" for fact in (*OLD, *NEW, *shipped_facts("known"))]
    tokenizer = train_tokenizer(texts, vocabulary=400)
    model = build_model(PRETRAINING["smoke"], tokenizer).requires_grad_(False)
    # weights of the size of trained ones: at their initial size no token is told from another
    for name, parameter in model.named_parameters():
        parameter.mul_(1 if "norm" in name else 30 if "embed" in name else 8)
    path = folder / "backbone"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tune_facts(folder: Path, facts: list[Fact], backbone: Path) -> None:
    """`mome tune` of these facts to `folder`, as its command does it."""
    listed = backbone.parent / f"{facts[0].id.partition('/')[0]}.jsonl"
    if not listed.exists():
        write_jsonl(facts, listed)
    memorize_file(listed, folder, str(backbone), EXPERTS, ROUTER, MEMORY)


def write_adapters(folder: Path) -> Path:
    """`folder`/older with the facts OLD and `folder`/newer with NEW; returns the backbone's folder."""
    torch.set_num_threads(1)  # threads do not survive a fork
    backbone = make_backbone(folder)
    for name, facts in (("older", OLD), ("newer", NEW)):
        tune_facts(folder / name, facts, backbone)
        found = answers(load_memory(folder / name))
        if found != [fact.answer for fact in facts]:
            raise RuntimeError(f"{name}: the tiny backbone did not learn its facts, it says {found}")
    return backbone


def edited_adapter(folder: Path) -> Path:
    """An adapter of OLD with two edits, and without the working files of its tuning."""
    place = copied(folder / "older", folder / "with-edits")
    shutil.rmtree(place / "checkpoints")
    with edit_memory(place) as memory:
        memory.update(replace(OLD[0], answer="4242"))
        memory.delete(OLD[1].id)
    return place


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, of which a damaged adapter gives many."""
    with catch_warnings():
        simplefilter("ignore")
        yield
