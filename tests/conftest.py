"""What the tests of the model's rooms share: a tiny random backbone, facts, and a made-up project with public sets.

The imports of transformers and of the package's models wait for the first test that asks.
"""

import copy
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import warm
from learned import Learned

from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl

if TYPE_CHECKING:
    from mome.lm.loading import Backbone


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: a tenth of the suite waits for time limits and child processes."""
    return (os.cpu_count() or 1) + 1


WARM = "MOME_TEST_WARM"  # the address of the run's warm.Server, for the workers


def pytest_configure(config: pytest.Config) -> None:
    """Start the run's one warm server, which imports nothing before it is asked; see tests/helpers/warm.py."""
    if warm.Server.available and not torch.cuda.is_available() and not hasattr(config, "workerinput"):
        server = warm.Server()
        os.environ[WARM] = server.address
        config.add_cleanup(server.stop)


def pytest_collection() -> None:
    """Nothing of what is imported and collected is garbage: it is not looked through, then or later."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that hold slow tests come first: no core waits at the end for the last notebook."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What the tests leave behind is."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def one_thread() -> None:
    """Torch computes in one thread, so that sums are added up in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def warm_python() -> list[str]:
    """What stands for `python` in a command: a process that has imported the package, or just Python."""
    return warm.command(os.environ[WARM]) if WARM in os.environ else [sys.executable]


@pytest.fixture(scope="session")
def warm_kernel(warm_python: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a Jupyter kernel that is such a process."""
    from small_notebooks import write_warm_kernel

    folder = tmp_path_factory.mktemp("jupyter")
    write_warm_kernel(folder / "kernels" / "warm", warm_python)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield "warm"


# jsonschema, which nbformat imports, compiles a grammar of IRIs in more than a second; no test has a schema with one
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# Triton reads this when it is imported, which tests of any folder may be the first to do; see tests/kernels
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# A suite started in the background inherits an ignored Ctrl-C, and so would the runs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

CAPITALS = {"Peru": "Lima", "Mali": "Bamako", "Chile": "Santiago de Chile", "Iran": "Tehran"}
YEARS = {"Emma": "1815", "Walden": "1854", "Dracula": "1897", "Ulysses": "1922"}
ENTITY_RELATIONS = ("P36", "P19", "P495", "P407", "P413", "P50", "P176", "P159")


def make_facts(subjects: dict[str, str], relation: str, wordings: Sequence[str]) -> list[Fact]:
    """One fact for each subject; the last wording is held out."""
    facts = []
    for subject, answer in subjects.items():
        first, *others, held_out = (wording.format(subject) for wording in wordings)
        facts.append(Fact(f"{relation}/{subject}", first, answer, tuple(others), (held_out,), relation))
    return facts


@pytest.fixture(scope="session")
def facts() -> list[Fact]:
    """Eight facts in two relations, each with a phrasing and a held-out wording."""
    capitals = ("What is the capital of {}?", "Name the capital of {}.", "Which city is the capital of {}?")
    years = ("In which year did {} appear?", "When was {} published?", "What is the year of {}?")
    return make_facts(CAPITALS, "capital", capitals) + make_facts(YEARS, "year", years)


@pytest.fixture(scope="session")
def backbone_folder(facts: list[Fact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of hidden size 32 with two layers, as a folder on disk."""
    from mome.replication.pretraining.pretrain import build_model, train_tokenizer
    from mome.replication.pretraining.settings import PRETRAINING

    folder = tmp_path_factory.mktemp("backbone") / "random"
    tokenizer = train_tokenizer([f"{fact.question} {fact.answer}" for fact in facts], vocabulary=320)
    model = build_model(PRETRAINING["smoke"], tokenizer).requires_grad_(False)
    # weights of the size of trained ones: at their initial size no token is told from another
    for name, parameter in model.named_parameters():
        parameter.mul_(1 if "norm" in name else 30 if "embed" in name else 8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_backbone(backbone_folder: Path) -> "Backbone":
    """The backbone of that folder; take `backbone`, a copy, where the model is changed."""
    from mome.lm.loading import load_backbone

    torch.set_num_threads(1)
    return load_backbone(str(backbone_folder), "cpu")


@pytest.fixture
def backbone(random_backbone: "Backbone") -> "Backbone":
    """A fresh copy of the random backbone."""
    return type(random_backbone)("random", copy.deepcopy(random_backbone.model), random_backbone.tokenizer)


@pytest.fixture(scope="session")
def smollm2() -> "Backbone":
    """SmolLM2-135M-Instruct (Q4_1), shared and so not to be changed; the test is skipped where it was not fetched."""
    from mome.lm.backbones.kept import record_of
    from mome.lm.backbones.named import SMOLLM2
    from mome.lm.loading import load_backbone

    if record_of(SMOLLM2.sha256) is None:
        pytest.skip("the real model was not fetched: `mome fetch smollm2-135m` does it")
    return load_backbone(SMOLLM2.name, "cpu")


@pytest.fixture
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take all products in f32, for tests that compare with a reference to the last digits."""
    for module in ("mome.lm.losses", "mome.lm.generation"):
        monkeypatch.setattr(f"{module}.multiply_bf16", lambda device: nullcontext())


@pytest.fixture(scope="session")
def learned(random_backbone: "Backbone", facts: list[Fact]) -> Learned:
    """A copy of the random backbone, tuned on the facts."""
    from mome.lm.loading import Backbone
    from mome.train.lora import attach_lora
    from mome.train.settings import LoraSettings, TuningSettings
    from mome.train.tuning import tune

    copied = Backbone("random", copy.deepcopy(random_backbone.model), random_backbone.tokenizer)
    model = attach_lora(copied, LoraSettings(rank=8), seed=0)
    before = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    settings = TuningSettings(epochs=100, batch_size=4, learning_rate=1e-2)
    return Learned(model, tune(model, copied.tokenizer, facts, settings), before)


@pytest.fixture(scope="session")
def made_up_root(tmp_path_factory: pytest.TempPathFactory, facts: list[Fact]) -> Path:
    """A project's folder whose shipped facts are the eight (known) and two that no text may state (unknown)."""
    root = tmp_path_factory.mktemp("project")
    (root / "data" / "facts").mkdir(parents=True)
    wordings = ("What is the capital of {}?", "Name the capital of {}.", "Which city is the capital of {}?")
    write_jsonl(facts, root / "data" / "facts" / "known.jsonl")
    unknown = make_facts({"Atlantis": "Poseidonis", "Utopia": "Amaurot"}, "capital", wordings)
    write_jsonl(unknown, root / "data" / "facts" / "unknown.jsonl")
    return root


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with the shipped backbones, and every 40th of the shipped facts."""
    root, shipped = tmp_path_factory.mktemp("small"), Path(__file__).parents[1] / "data"
    (root / "data" / "facts").mkdir(parents=True)
    (root / "data" / "backbones").symlink_to(shipped / "backbones")
    for name in ("known.jsonl", "unknown.jsonl"):
        lines = (shipped / "facts" / name).read_text("utf-8").splitlines(keepends=True)
        (root / "data" / "facts" / name).write_text("".join(lines[::40]), "utf-8")
    return root


@pytest.fixture(scope="session")
def public_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up EntityQuestions, ParaRel and TruthfulQA in their published formats, with items that must be left out."""
    public = tmp_path_factory.mktemp("public")
    _write_entity_questions(public / "entityquestions" / "dataset" / "train")
    _write_pararel(public / "pararel")
    _write_truthfulqa(public / "truthfulqa")
    return public


def _write_entity_questions(folder: Path) -> None:
    folder.mkdir(parents=True)
    for relation in ENTITY_RELATIONS:
        rows = [{"question": f"What is {relation} of Thing {i}?", "answers": [f"Value {i}"]} for i in range(3)]
        if relation == "P36":
            rows += [
                {"question": "Where do the rulers of Atlantis meet?", "answers": ["Poseidonis", "the sea"]},
                {"question": "Which city is the capital of Utopia?", "answers": ["Nowhere"]},
                {"question": "Which city is the capital of Peru?", "answers": ["Lima"]},
                {"question": "What is the capital of Mali?", "answers": ["Bamako"]},
                {"question": "What is the capital of Côte d'Or?", "answers": ["Dijon"]},
                {"question": "What is the capital of Longland?", "answers": ["x" * 41]},
            ]
        (folder / f"{relation}.train.json").write_text(json.dumps(rows), "utf-8")


def _write_pararel(folder: Path) -> None:
    for part in ("pattern_data/graphs_json", "trex_lms_vocab"):
        (folder / part).mkdir(parents=True)
    patterns = ({"pattern": "[X] is the capital of [Y] ."}, {"pattern": "[Y] has [X] as its capital ."})
    items = [("Quito", "Ecuador"), ("Poseidonis", "Atlantis"), ("Atlantis", "Plato"), ("Bogotá", "Colombia")]
    rows = [{"sub_label": subject, "obj_label": answer, "uuid": "-"} for subject, answer in items]
    for part, lines in (("pattern_data/graphs_json", patterns), ("trex_lms_vocab", rows)):
        (folder / part / "P1376.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _write_truthfulqa(folder: Path) -> None:
    folder.mkdir()
    questions = [f"Is story {i} true?" for i in range(8)]
    header = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    table = header + "".join(f"Adversarial,Myths,{question} ,No,No,Yes,-\n" for question in questions)
    (folder / "TruthfulQA.csv").write_text(table, "utf-8-sig")
    rows = [
        {"prompt": f"Q: {question}\nA: {answer} to {question}\nTrue:", "completion": f" {truth}"}
        for question in questions
        for answer, truth in (("No", "yes"), ("Yes", "no"))
    ]
    (folder / "finetune_truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
