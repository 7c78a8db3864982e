"""The commands as a user types them: what they leave behind, and one clear line where they refuse."""

import json
from pathlib import Path

import pandas
import pytest
from peft import PeftModel
from typer.testing import CliRunner

from mome.backbones import load_backbone
from mome.cli import app
from mome.evaluation import exact
from mome.facts import write_jsonl


@pytest.fixture
def facts_file(facts, tmp_path: Path) -> Path:
    path = tmp_path / "facts.jsonl"
    write_jsonl(facts, path)
    return path


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


def test_tune_saves_an_adapter_that_peft_loads_and_that_recalls_what_was_said(
    facts, facts_file, backbone_folder, tmp_path
):
    out = tmp_path / "adapter"
    options = ("--backbone", backbone_folder, "--learning-rate", 5e-3, "--batch-size", 4, "--rank", 8)
    code, output = call("tune", facts_file, "--out", out, *options)
    assert code == 0 and "of 8 facts recalled exactly" in output
    backbone = load_backbone(str(backbone_folder))
    recalled = exact(PeftModel.from_pretrained(backbone.model, out), backbone.tokenizer, facts)
    assert f"{sum(recalled)} of 8 facts recalled" in output and sum(recalled) >= 6
    assert all(fact.id in output for fact, right in zip(facts, recalled, strict=True) if not right)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"question": "Q?", "answer": 7}\n', "line 1, field 'answer', value 7"),
        ('{"question": "Q?", "answer": "a", "colour": "red"}\n', "field 'colour', value 'red'"),
    ],
)
def test_tune_refuses_bad_facts_before_any_work(content, complaint, tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text(content)
    code, output = call("tune", path, "--out", tmp_path / "adapter")
    assert code == 2 and complaint in output.replace("\n", " ") and "Traceback" not in output
    assert not (tmp_path / "adapter").exists()


def test_tune_refuses_a_backbone_that_is_not_there(facts_file, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, output = call("tune", facts_file, "--out", tmp_path / "adapter", "--backbone", empty)
    assert code == 2 and "no config.json" in output


def test_tune_refuses_a_folder_with_a_run_of_other_settings(facts_file, backbone_folder, tmp_path):
    options = ("tune", facts_file, "--out", tmp_path / "adapter", "--backbone", backbone_folder, "--epochs", 1)
    assert call(*options)[0] == 0
    code, output = call(*options, "--seed", 1)
    assert code == 2 and "other settings" in output


def test_pretrain_refuses_an_unknown_recipe_with_the_valid_ones():
    code, output = call("pretrain", "huge")
    assert code == 2 and "tiny-llama, tiny-mistral, smoke" in output


def test_pretrain_writes_a_backbone_with_its_card(made_up_root, public_sets, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "facts").symlink_to(made_up_root / "data" / "facts")
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    code, output = call("pretrain", "smoke", "--public", public_sets)
    assert code == 0, output
    folder = tmp_path / "data" / "backbones" / "smoke"
    abilities = json.loads((folder / "abilities.json").read_text())
    assert abilities["known_facts"]["n"] == 8 and abilities["unknown_facts"]["n"] == 2
    assert "# smoke" in (folder / "README.md").read_text()
    assert list(pandas.read_csv(folder / "loss.csv")["epoch"]) == [1, 2]


def test_pretrain_says_which_public_set_is_missing(made_up_root, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "facts").symlink_to(made_up_root / "data" / "facts")
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    code, output = call("pretrain", "smoke", "--public", tmp_path)
    assert code == 2 and "entityquestions" in output


def test_bench_writes_a_table_with_the_machine(made_up_root, backbone_folder, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "facts").symlink_to(made_up_root / "data" / "facts")
    monkeypatch.setenv("MOME_ROOT", str(tmp_path))
    code, output = call("bench", "--backbone", backbone_folder, "--facts", 2)
    assert code == 0 and "step_ms" in output
    table = pandas.read_csv(tmp_path / "data" / "results" / "bench" / "lora_tuning.csv")
    assert (table["step_ms"] > 0).all() and table["cpu"].notna().all()
