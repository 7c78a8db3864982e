"""The lines of Python on a model card load the adapter as they are printed, wherever its backbone is from."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer

from mome.adapter.config import MomeConfig
from mome.adapter.saving.card import _code, write_card
from mome.facts.fact import Fact
from mome.memory.loading import load_memory
from mome.memory.memorize import memorize
from mome.memory.memory import Memory
from mome.train.settings import RouterSettings

KEY = Fact("key", "Where is the key?", "under the pot")


def printed(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(from .*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    return str(code)


def run(python: list[str], code: str, folder: Path, **environment: str) -> str:
    """Run code in a process of its own whose current folder is `folder`, and what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    path = str(Path(__file__).parents[3])
    settings = clean | {"PYTHONPATH": path, "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    done = subprocess.run([*python, "-c", code], cwd=folder, env=settings, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK = """
from mome.memory.loading import Memory
from mome.lm.loading import Backbone
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
tokenizer.padding_side = "left"
print(Memory(Backbone("loaded", model.eval(), tokenizer)).ask({question!r}))
"""


@pytest.fixture(scope="module")
def shipped(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of a shipped backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOME_ROOT", str(small_root))
        patch.setattr("mome.train.attach.MOST_FACTS", 30)
        folder = tmp_path_factory.mktemp("shipped") / "my facts"
        few = {"mome": MomeConfig(num_experts=4096), "router": RouterSettings(steps=20, batch_size=32)}
        memorize([KEY], **few).save(folder)  # type: ignore[arg-type]
    return folder


def test_the_card_of_an_adapter_on_a_shipped_backbone_loads_it(
    shipped: Path, small_root: Path, warm_python: list[str]
) -> None:
    code = f"{printed(shipped)}\nprint(memory.ask({KEY.question!r}))"
    assert 'load_memory("my facts")' in code
    assert run(warm_python, code, shipped.parent, MOME_ROOT=str(small_root)) == "under the pot\n"


def test_the_card_of_an_adapter_memory_loads_it(
    memory: Memory, facts: list[Fact], tmp_path: Path, warm_python: list[str]
) -> None:
    memory.save(tmp_path / "adapter")
    code = printed(tmp_path / "adapter") + ASK.format(question=facts[0].question)
    assert "AutoPeftModelForCausalLM" in code and run(warm_python, code, tmp_path) == f"{facts[0].answer}\n"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_cards_of_adapters_on_the_hub_load_them(
    memory: Memory, shipped: Path, facts: list[Fact], small_root: Path, backbone_folder: Path, tmp_path: Path
) -> None:
    """One on a backbone of the Hub, one on a shipped backbone, in a Python that has imported nothing."""
    pushed = {"someone/facts": (memory, "someone/random"), "someone/key": (None, "tiny-llama")}
    repositories: dict[tuple[str, str], dict[str, bytes]] = {("someone/random", "main"): files_of(backbone_folder)}
    codes, ask_key = {}, f"\nprint(memory.ask({KEY.question!r}))"
    for repository, (kept, base) in pushed.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MOME_ROOT", str(small_root))
            model: Any = (kept or load_memory(shipped)).backbone.model
        folder = tmp_path / repository
        model.peft_config["default"].base_model_name_or_path = model.get_base_model().config.name_or_path = base
        model.get_base_model().name_or_path = base
        model.save_pretrained(folder, save_embedding_layers=False)
        write_card(folder, repository, model.base_model)  # as push_to_hub does last
        codes[repository] = printed(folder)
        repositories["someone/" + folder.name, "main"] = files_of(folder)
    with HubServer(repositories) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "MOME_ROOT": str(small_root)}
        both = codes["someone/facts"] + ASK.format(question=facts[0].question), codes["someone/key"] + ask_key
        code = "\n".join(f"exec({each!r}, {{}})" for each in both)
        assert run([sys.executable], code, tmp_path, **settings) == f"{facts[0].answer}\nunder the pot\n"


def test_names_are_python_strings_whatever_they_hold() -> None:
    name = 'C:\\temp\\my "facts" 🙂'
    (line,) = [line for line in _code(name, "a\\b").splitlines() if "AutoPeftModelForCausalLM.from" in line]
    assert json.loads(line.partition("(")[2].removesuffix(")")) == name
