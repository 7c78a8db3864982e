"""Memory experts as the notebooks train them: what their runs share with those of a user."""

from pathlib import Path

import pytest
import torch
from tiny_memory import tuner
from two_facts import FACTS

from mome.memory.memorize import memorize
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe


def test_a_user_takes_the_router_that_a_notebook_has_trained(
    small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOME_ROOT", str(small_root))
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    monkeypatch.setattr("mome.train.attach.MOST_FACTS", 100)
    recipe = Recipe(router_questions=100).but(
        mome={"num_experts": 1024, "top_k": 8}, router={"steps": 2, "batch_size": 8}, memory={"epochs": 1, "repairs": 0}
    )
    run = memorize_mome("tiny-llama", FACTS, recipe, general=[])
    (kept,) = (tmp_path / "routers").iterdir()
    monkeypatch.setattr("mome.train.attach.train_router", None)
    memory = memorize(FACTS, mome=recipe.mome, router=recipe.router, memory=recipe.memory)
    assert [*(tmp_path / "routers").iterdir()] == [kept]
    first, second = (tuner(backbone.model).router for backbone in (run.backbone, memory.backbone))
    assert torch.equal(first.project, second.project) and torch.equal(first.whiten, second.whiten)
