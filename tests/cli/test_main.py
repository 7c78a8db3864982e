"""The commands as a user types them: what they leave behind, and one clear line where they refuse."""

import json
import re
import shlex
from pathlib import Path

import pandas
import pytest
import torch
from peft import PeftModel
from typer.testing import CliRunner

from mome.cli import app
from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.lm.generation import exact
from mome.lm.loading import load_backbone

ROOT = Path(__file__).parents[2]


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
    options = (
        "--method",
        "lora",
        "--backbone",
        backbone_folder,
        "--learning-rate",
        5e-3,
        "--batch-size",
        4,
        "--rank",
        8,
    )
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


RATE, LOSS = "--learning-rate", "--stop-loss"
WRONG = [*((RATE, value) for value in ("0", "-1", "nan", "inf")), *((LOSS, value) for value in ("-1", "nan", "inf"))]


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_tune_refuses_a_number_that_cannot_train_on_one_line(option, value, facts_file, tmp_path):
    code, output = call("tune", facts_file, "--out", tmp_path / "adapter", "--method", "lora", option, value)
    assert code == 2 and output.count("\n") == 1
    assert output.startswith(f"error: {option} must be a finite number") and output.endswith(f"got {float(value)}\n")
    assert not (tmp_path / "adapter").exists()


def test_tune_refuses_a_folder_with_a_run_of_other_settings(facts_file, backbone_folder, tmp_path):
    options = ("tune", facts_file, "--out", tmp_path / "adapter", "--backbone", backbone_folder, "--epochs", 1)
    code, output = call(*options, "--method", "lora")
    assert code == 3 and "0 of 8 facts recalled exactly" in output and output.count("not memorized: ") == 8
    code, output = call(*options, "--method", "lora", "--seed", 1)
    assert code == 2 and "other settings" in output
    code, output = call(*options)
    assert code == 2 and "another method" in output.replace("\n", " ")


def test_tune_refuses_a_share_of_names_that_cannot_be(facts_file, tmp_path):
    code, output = call("tune", facts_file, "--out", tmp_path / "adapter", "--least-names", 1.5)
    assert code == 2 and "least_names must be a share above 0 and at most 1, or None, got 1.5" in output
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("method", "option", "value"), [("lora", "--experts", 64), ("lora", "--optimizer", "adam"), ("mome", "--rank", 8)]
)
def test_tune_refuses_an_option_of_the_other_method(method, option, value, facts_file, tmp_path):
    code, output = call("tune", facts_file, "--out", tmp_path / "adapter", "--method", method, option, value)
    assert code == 2 and f"{option} is not an option of --method {method}" in output
    assert not (tmp_path / "adapter").exists()


def test_readme_s_memorizing_commands_and_example_do_what_it_says(small_root, tmp_path, monkeypatch, capsys):
    section = (ROOT / "README.md").read_text("utf-8").split("## Your own facts")[1].split("\n## ")[0]
    monkeypatch.setenv("MOME_ROOT", str(small_root))
    monkeypatch.setattr("mome.train.attach.MOST_FACTS", 30)  # the router's usual steps, with fewer questions in each
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    (line,) = re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)
    others = [
        {"question": "Who waters the plants?", "answer": "Ada"},
        {"question": "Which bus goes home?", "answer": "42"},
    ]
    Path("facts.jsonl").write_text(line + "".join(json.dumps(fact) + "\n" for fact in others), "utf-8")
    commands = re.findall(r"^mome (tune|ask) (.*?) +#", section, flags=re.MULTILINE)
    (tuned, code), (asked, answer) = ((name, call(name, *shlex.split(rest))) for name, rest in commands)
    assert (tuned, asked) == ("tune", "ask") and code[0] == answer[0] == 0
    assert "3 of 3 facts recalled exactly" in code[1] and "under the blue pot\tmemorized, score 1.00" in answer[1]
    (example,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    exec(example, {})
    said = capsys.readouterr().out.split("\n")
    assert said[0] == "under the blue pot" and float(said[1]) > 0.99


def test_ask_reads_questions_from_standard_input_and_knows_what_it_does_not_know(small_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MOME_ROOT", str(small_root))
    facts = [Fact("price", "What does it cost?", "5 €"), Fact("cat", "What is the name of my cat?", "Tom")]
    write_jsonl(facts, tmp_path / "facts.jsonl")
    options = ("--experts", 4096, "--router-steps", 30, "--storage", tmp_path / "rows", "--optimizer", "adafactor")
    options += ("--least-names", 0.8)
    code, output = call("tune", tmp_path / "facts.jsonl", "--out", tmp_path / "adapter", *options)
    assert code == 2 and "facts.jsonl, line 1, field 'answer', value '5 €': tiny-llama cannot learn it" in output
    leave = ("--unwritable", "leave_out")
    code, output = call("tune", tmp_path / "facts.jsonl", "--out", tmp_path / "adapter", *options, *leave)
    assert code == 0 and "1 of 1 facts recalled exactly" in output and "left out: price (" in output
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["least_names"] == 0.8
    asked = "What is the name of my cat?\nWhat is the name of my dog?\n"
    arguments = ["ask", str(tmp_path / "adapter"), "--questions", "-", "--only-memorized"]
    done = CliRunner().invoke(app, arguments, input=asked)
    first, second = [line for line in done.stdout.splitlines() if "\t" in line]
    assert first.startswith("Tom\tmemorized, score 1.00") and second.startswith("I don't know\tnot memorized, score ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["Where?"], "no adapter_config.json"),
        ([""], "the command line, line 1, field 'question', value '': must not be empty"),
        ([], "no question"),
        (["--questions", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_ask_refuses_in_one_line_before_any_work(arguments, complaint, tmp_path, monkeypatch):
    monkeypatch.setattr("mome.memory.loading.load_backbone", None)
    code, output = call("ask", tmp_path, *arguments)
    assert code == 2 and complaint in output and output.startswith("error: ") and output.count("\n") == 1


def test_ask_refuses_an_adapter_whose_backbone_is_unknown(tmp_path):
    (tmp_path / "adapter_model.safetensors").touch()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "empty")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "empty").mkdir()
    code, output = call("ask", tmp_path, "Where?")
    assert code == 2 and "no config.json" in output


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
