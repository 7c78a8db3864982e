"""`mome score` prints and writes what the scorer finds, and refuses what it cannot do in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from public_files import write_files
from typer.testing import CliRunner

from mome.cli import app
from mome.lm.loading import Backbone
from mome.replication.scoring.multiple_choice import load_questions, score
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings

BOTH = ("--task", "truthfulqa_mc1", "--task", "mmlu")


@pytest.fixture(autouse=True)
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(write_files(tmp_path / "public")))


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["score", *map(str, arguments)], env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.stdout or done.stderr


def test_a_line_for_each_task_and_all_questions_as_json(
    backbone_folder: Path, random_backbone: Backbone, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "scores.json"
    code, output = call(backbone_folder, *BOTH, "--shots", 1, "--out", out)
    assert code == 0
    asked: Any = {"truthfulqa_mc1": load_questions("truthfulqa_mc1"), "mmlu": load_questions("mmlu", 1)}
    expected = score(random_backbone, asked)
    written = json.loads(out.read_text("utf-8"))
    assert (written["model"], written["scorer"], written["shots"]) == (str(backbone_folder), "mome", 1)
    assert written["environment"]["torch"] == torch.__version__
    for line, row, found in zip(output.splitlines(), written["tasks"], expected.values(), strict=True):
        interval = found.interval
        assert line.startswith(f"{found.task:<15}{interval.mean:.4f} (95% {interval.low:.4f} to {interval.high:.4f})")
        assert (row["task"], row["value"], row["n"]) == (found.task, interval.mean, interval.n)
        assert [one["id"] for one in row["questions"]] == [item.id for item in found.items]
        assert [tuple(one["log_likelihoods"]) for one in row["questions"]] == [*found.log_likelihoods]
        assert row["by_subject"] == found.by_subject


def test_an_adapter_is_scored_on_its_backbone(backbone: Backbone, backbone_folder: Path, tmp_path: Path) -> None:
    model: Any = attach_lora(backbone, LoraSettings(rank=2), seed=0)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.fill_(0.3)
    model.peft_config["default"].base_model_name_or_path = str(backbone_folder)
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    out = tmp_path / "scores.json"
    assert call(tmp_path / "adapter", "--task", "mmlu", "--out", out)[0] == 0
    (row,) = json.loads(out.read_text("utf-8"))["tasks"]
    asked: Any = {"mmlu": load_questions("mmlu")}
    tuned = score(Backbone("tuned", model.eval(), backbone.tokenizer), asked)["mmlu"]
    with model.disable_adapter():
        bare = score(Backbone("bare", model, backbone.tokenizer), asked)["mmlu"]
    found = numpy.array([one["log_likelihoods"] for one in row["questions"]])
    numpy.testing.assert_allclose(found, numpy.array(tuned.log_likelihoods), atol=1e-4, rtol=0)
    assert numpy.abs(found - numpy.array(bare.log_likelihoods)).min() > 1e-2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--task", "hellaswag"), "--task 'hellaswag' is not one of truthfulqa_mc1, truthfulqa_mc2, mmlu"),
        (("--task", "truthfulqa_mc1", "--shots", 2), "--shots and --subject are options of --task mmlu"),
        (("--task", "mmlu", "--subject", "alchemy"), "MMLU has no subject 'alchemy'"),
        (("--task", "truthfulqa_mc1", "--harness", "--no-preamble"), "--no-preamble: the harness always shows it"),
        (("--task", "mmlu", "--out", "."), "--out .: is a folder, not a file"),
        (("--task", "mmlu", "--backbone", "tiny-llama"), "--backbone tiny-llama:"),
    ],
)
def test_what_cannot_be_is_one_line(options: tuple[object, ...], complaint: str, backbone_folder: Path) -> None:
    code, output = call(backbone_folder, *options)
    assert code == 2 and f"error: {complaint}" in output


def test_a_missing_harness_says_how_to_install_it(backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"] + [
        "mome.replication.scoring.harness"
    ]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, output = call(backbone_folder, "--task", "mmlu", "--harness")
    assert code == 2 and "error: --harness: lm-eval is not installed" in output
