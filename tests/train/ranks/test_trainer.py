"""Phase 2 over 2 and 4 ranks: it recalls what one process does, repeats to the bit, and outlives a dead rank."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rank_children import Finished, result, run_ranks
from tiny_memory import learn, memorize, memory_model, settings, tuner

from mome.adapter.bank import with_fresh_optimizers
from mome.facts.fact import Fact
from mome.facts.readers import write_jsonl
from mome.files.checkpoints import read_checkpoint
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.train.ranks.trainer import refuse_optimizer

ALONE: dict[str, Any] = {"group_size": 1}  # a group for each fact: the same for any number of ranks
AUGMENTED: dict[str, Any] = {"group_size": 2, "wordings": 2, "state_noise": 0.2, "prompt_dropout": 0.3, "epochs": 8}


@pytest.fixture(scope="module")
def asked(facts: list[Fact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    write_jsonl(facts, path)
    return path


def succeeded(done: list[Finished]) -> None:
    assert [(child.code, child.output, child.errors) for child in done[1:]] == [(0, "", "")] * (len(done) - 1)
    assert done[0].code == 0, done[0].errors


def same(one: Path, other: Path) -> None:
    (rows, run), (rows_too, run_too) = result(one), result(other)
    assert run == run_too
    assert rows.keys() == rows_too.keys() and len(rows["ids"])
    assert all(torch.equal(rows[name], rows_too[name]) for name in rows)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_groups_that_are_the_same_end_as_in_one_process(
    warm_python: list[str],
    count: int,
    random_backbone: Backbone,
    backbone_folder: Path,
    facts: list[Fact],
    asked: Path,
    tmp_path: Path,
) -> None:
    succeeded(run_ranks(warm_python, count, tmp_path, backbone_folder, asked, settings=ALONE))
    model = memory_model(random_backbone)
    learn(model, random_backbone, facts)
    run = memorize(model, random_backbone, facts, settings(**ALONE))
    expected = tuner(model).bank.members(optimizer=False)
    rows, found = result(tmp_path)
    assert torch.equal(rows["ids"], expected["ids"])  # the same experts are trained
    assert found["failed"] == run.failed == [] and found["visits"] == run.visits
    torch.testing.assert_close(torch.tensor(found["losses"]), torch.from_numpy(run.losses))
    torch.testing.assert_close(torch.tensor(found["worst"]), torch.from_numpy(run.worst))
    tuner(model).bank.restore(with_fresh_optimizers(tuner(model).bank, rows))
    assert all(exact(model, random_backbone.tokenizer, facts))


@pytest.mark.slow
def test_the_same_number_of_ranks_gives_the_same_bits_and_goes_on_after_a_death(
    warm_python: list[str], backbone_folder: Path, asked: Path, tmp_path: Path
) -> None:
    plain, saved = tmp_path / "plain", tmp_path / "saved"
    succeeded(run_ranks(warm_python, 2, plain, backbone_folder, asked, settings=AUGMENTED))
    task: dict[str, Any] = {"settings": AUGMENTED, "checkpoint": str(tmp_path / "checkpoints")}
    done = run_ranks(warm_python, 2, saved, backbone_folder, asked, **task, dies=[1, 11])
    assert [child.code for child in done] == [1, -9]
    assert "RankError: rank 0 waited for" in done[0].errors and done[1].errors == ""
    assert "rank 1 does not answer any more. Start the same command again: it goes on" in done[0].errors
    begun = read_checkpoint(tmp_path / "checkpoints")
    assert begun is not None and begun.step > 0 and not begun.state["progress"]["finished"]
    succeeded(run_ranks(warm_python, 2, saved, backbone_folder, asked, **task))
    same(plain, saved)
    other = run_ranks(warm_python, 4, tmp_path / "other", backbone_folder, asked, **task)
    assert [child.code for child in other] == [1, 2, 2, 2]
    assert "written under other settings (ranks); delete it" in other[0].errors
    assert [child.errors for child in other[1:]] == ["", "", ""]


@pytest.mark.slow
def test_facts_that_share_rows_are_recalled_whoever_trains_them(
    warm_python: list[str],
    random_backbone: Backbone,
    backbone_folder: Path,
    facts: list[Fact],
    asked: Path,
    tmp_path: Path,
) -> None:
    crowded = {"num_experts": 64}  # 8 facts of 8 experts: many are shared
    succeeded(run_ranks(warm_python, 2, tmp_path, backbone_folder, asked, settings=ALONE, model=crowded))
    rows, run = result(tmp_path)
    assert len(rows["ids"]) < 64 and run["failed"] == [] and run["rounds"] > 1
    model = memory_model(random_backbone, **crowded)
    learn(model, random_backbone, facts)
    memorize(model, random_backbone, facts, settings(epochs=1, repairs=0))  # for the anchors
    tuner(model).bank.restore(with_fresh_optimizers(tuner(model).bank, rows))
    assert all(exact(model, random_backbone.tokenizer, facts))


def test_statistics_of_all_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="optimizer: adafactor keeps statistics of all rows"):
        refuse_optimizer(settings(optimizer="adafactor"))
