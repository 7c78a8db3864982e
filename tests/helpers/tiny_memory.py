"""Memory experts on the tiny random backbone of conftest.py, and settings under which they learn in a second."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from peft import get_peft_model

from mome.adapter.model import MomeConfig, MomeModel, mome_model
from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.train.experts import MemoryRun, memorize_facts
from mome.train.router import RouterReport, train_router
from mome.train.settings import MemorySettings, RouterSettings

ROUTER = RouterSettings(steps=20, learning_rate=1e-2)
MEMORY = MemorySettings(batch_size=4, target_loss=0.2, repair_loss=0.3)
UNRELATED = ["Who wrote the anthem?", "What does a carpenter do all day?", "Is it raining in the mountains?", "Why?"]


def memory_model(backbone: Backbone, **changes: Any) -> Any:
    """An untrained MoME model on a copy of the backbone: 4,096 experts above its first layer, 8 for a question."""
    values = {"num_experts": 4096, "top_k": 8, "key_size": 16, "router_layer": 1, "init_scale": 32.0}
    config = MomeConfig(**{**values, "target_modules": ["gate_proj", "down_proj"], **changes})
    return get_peft_model(copy.deepcopy(backbone.model), config)


def tuner(model: Any) -> MomeModel:
    """The tuner inside."""
    found = mome_model(model)
    assert found is not None
    return found


def settings(**changes: Any) -> MemorySettings:
    """`MEMORY` with changes, validated."""
    return MemorySettings.model_validate({**MEMORY.model_dump(), **changes})


def learn(model: Any, backbone: Backbone, facts: Sequence[Fact], **options: Any) -> RouterReport:
    """Phase 1 with `ROUTER`, changed by `options`."""
    chosen = RouterSettings.model_validate({**ROUTER.model_dump(), **options})
    return train_router(model, backbone.tokenizer, facts, chosen)


def memorize(model: Any, backbone: Backbone, facts: Sequence[Fact], options: Any = MEMORY, **more: Any) -> MemoryRun:
    """Phase 2."""
    return memorize_facts(model, backbone.tokenizer, facts, options, **more)


def logits(model: Any, backbone: Backbone, questions: Sequence[str]) -> list[torch.Tensor]:
    """What the model says to each question, asked alone."""
    asked = [backbone.tokenizer(f"Q: {question}\nA:", return_tensors="pt") for question in questions]
    with torch.no_grad():
        return [model(**inputs).logits for inputs in asked]


def equal(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether all tensors agree in every bit."""
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
