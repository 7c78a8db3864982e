"""The kept runs of LoRA in three wordings: what a run of one's own gives, found only where all is equal."""

from pathlib import Path

import pandas
import pytest
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.fact import with_wordings
from mome.facts.shipped import shipped_facts
from mome.lm.losses import text_loss
from mome.replication.experiments.lora import run_key
from mome.replication.experiments.pools import select_facts, tuning_pool, with_answers
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.parameters import default_parameters
from mome.replication.notebook.results import Destination
from mome.replication.paper.fig5_mome_convergence import lora_wordings
from mome.train.settings import LoraSettings, TuningSettings

ROOT = Path(__file__).resolve().parents[4]
STEM = "06_fig5_mome_convergence"


@pytest.fixture
def quick(monkeypatch, tmp_path, backbone_folder):
    """The command at a size that a test can pay, as a function that measures `table`."""
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lora_wordings, "TUNING", TuningSettings(epochs=2, learning_rate=0.002))
    options = [f"--backbone={backbone_folder}", "--facts=2", "--drawn=3", "--general=3", "--answers=random"]
    return lambda table: CliRunner().invoke(app, ["table", "lora-wordings", str(table), *options])


@pytest.mark.parametrize("key", [None, "0123456789012345"])  # a run's own key, and one that looks like a number
def test_a_kept_run_is_what_the_run_itself_gives(quick, tmp_path, backbone_folder, monkeypatch, key):
    if key:
        monkeypatch.setattr(lora_wordings, "run_key", lambda *_: key)
    table, name = tmp_path / "table.csv", str(backbone_folder)
    assert quick(table).exit_code == 0
    rows = pandas.read_csv(table, dtype=lora_wordings.TEXTS)
    assert len(rows) == 2 and rows["run"].nunique() == 1
    facts = select_facts(asked_backbone(name), tuning_pool("shipped"), 3, 0).facts[:2]
    told, asked = with_answers(facts, "random", 0), shipped_facts("known")[:3]
    before = text_loss(asked_backbone(name).model, asked_backbone(name).tokenizer, asked)
    tuning = lora_wordings.TUNING.model_copy(update={"seed": 0})
    own = lora_wordings.lora_abilities(name, told, tuning, asked, before)
    monkeypatch.setattr(lora_wordings, "memorize", lambda *_: pytest.fail("a kept run was run again"))
    kept = lora_wordings.lora_abilities(name, told, tuning, asked, before, table)
    assert kept["recall"] == own["recall"] and kept["paraphrase_recall"] == own["paraphrase_recall"]


@pytest.mark.parametrize("changed", ["settings", "answers"])
def test_another_run_is_not_taken_from_the_table(quick, tmp_path, backbone_folder, monkeypatch, changed):
    table, name = tmp_path / "table.csv", str(backbone_folder)
    assert quick(table).exit_code == 0
    facts = select_facts(asked_backbone(name), tuning_pool("shipped"), 3, 0).facts[:2]
    told = with_answers(facts, "real" if changed == "answers" else "random", 0)
    tuning = lora_wordings.TUNING.model_copy(update={"seed": 0, "epochs": 1 if changed == "settings" else 2})
    ran = []
    measured = {"recall": [], "paraphrase_recall": [], "general_accuracy": [], "general_loss_drift": []}
    monkeypatch.setattr(lora_wordings, "memory_abilities", lambda done, *_: ran.append(done) or measured)
    assert lora_wordings.lora_abilities(name, told, tuning, [], [], table) == measured and len(ran) == 1


@pytest.mark.parametrize("answers", ["real", "random"])
def test_the_notebook_finds_its_runs_in_the_committed_table(answers: str):
    given = default_parameters(ROOT / "notebooks" / f"{STEM}.ipynb")
    rows = pandas.read_csv(Destination.committed(STEM, "tiny").table("lora_wordings"))
    backbone = asked_backbone(given["backbones"][0])
    drawn = select_facts(backbone, tuning_pool("shipped"), given["facts"], 0).facts
    told = with_wordings(with_answers(drawn[: given["paraphrase_facts"]], answers, 0), lora_wordings.WORDINGS)
    tuning = TuningSettings(
        learning_rate=given["learning_rate"], stop_loss=given["stop_loss"], epochs=given["epochs"], seed=0
    )
    assert (rows["run"] == run_key(backbone, told, tuning, LoraSettings())).sum() == given["paraphrase_facts"]
    assert set(rows["seed"]) == {0, 1, 2}
