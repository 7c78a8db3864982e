"""Small random backbones of the three families, and MoME models on them whose experts know something."""

from typing import Any

import torch
from peft import get_peft_model
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mome.adapter.model import MomeConfig, MomeModel, mome_model
from mome.lm.decoder import states_before
from mome.train.optim import RowAdam

FAMILIES: dict[str, tuple[type, type]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
VOCABULARY, LAYERS, HIDDEN = 128, 3, 32
PAD, FIRST = 0, 3  # tokens below FIRST are special


def make_backbone(family: str = "llama", seed: int = 0) -> PreTrainedModel:
    """A random model of three layers and hidden size 32, frozen and in evaluation mode."""
    make_config, make_model = FAMILIES[family]
    config = make_config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=256,
    )
    torch.manual_seed(seed)
    return make_model(config).requires_grad_(False).eval()


def settings(**changes: Any) -> MomeConfig:
    """1,024 experts, 8 for a question, on all MLP projections above layer 0."""
    places = {"target_modules": None, "layers_to_transform": None}
    return MomeConfig(**{"num_experts": 1024, "top_k": 8, "key_size": 16, "init_scale": 8.0, **places, **changes})


def make_model(family: str = "llama", **changes: Any) -> Any:
    """An untrained MoME model."""
    return get_peft_model(make_backbone(family), settings(**changes))


def inner(model: Any) -> MomeModel:
    """The tuner inside."""
    found = mome_model(model)
    assert found is not None
    return found


def questions(count: int, length: int = 9, seed: int = 1) -> torch.Tensor:
    """Random token ids [count, length]."""
    return torch.randint(FIRST, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


def teach(model: Any, ids: torch.Tensor, answers: torch.Tensor, steps: int = 3, rate: float = 0.05) -> list[float]:
    """Train the experts of the questions `ids` to give `answers`; returns the losses."""
    tuner = inner(model)
    optimizer, losses = RowAdam(tuner.bank, rate), []
    tokens = torch.cat([ids, answers], dim=1)
    labels = torch.cat([torch.full_like(ids, -100), answers], dim=1)
    model.train()
    for _ in range(steps):
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        block = tuner.blocks.pop()
        optimizer.update(block.ids, {name: rows.grad for name, rows in block.rows.items()})
        losses.append(loss.item())
    model.eval()
    return losses


def taught_model(family: str = "llama", **changes: Any) -> Any:
    """A MoME model that was trained on four random questions, so that its experts matter."""
    model = make_model(family, **changes)
    teach(model, questions(4), questions(4, 3, seed=2), steps=6, rate=0.1)
    return model


def padded(rows: list[torch.Tensor], side: str, extra: int = 0) -> dict[str, torch.Tensor]:
    """A batch of token rows of any length, padded on one side to the longest plus `extra`."""
    width = max(map(len, rows)) + extra
    ids, mask = torch.full((len(rows), width), PAD), torch.zeros(len(rows), width, dtype=torch.int64)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[index, place], mask[index, place] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def query(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The router's queries [Q, key_size] of questions without padding."""
    tuner, mask = inner(model), torch.ones_like(ids)
    states = states_before(tuner.model, tuner.settings.router_layer, ids, mask, mask.cumsum(dim=1) - 1)
    return tuner.router.query(states, mask.bool()).detach()


def routed(model: Any, **batch: torch.Tensor) -> list[list[int]]:
    """The ids of the experts each question of a batch gets, ascending."""
    with torch.no_grad():
        model(**batch)
    selection = inner(model).selection
    assert selection is not None
    return selection.routes.ids.sort(dim=1).values.tolist()


def remembering(family: str = "llama", **changes: Any) -> Any:
    """A taught model with two memorized questions, a null key and a router that is not the one of its seed."""
    model = taught_model(family, **changes)
    router = inner(model).router
    with torch.no_grad():
        router.pool.add_(0.1)
    router.spread(query(model, questions(64, seed=4)))
    router.anchor(query(model, questions(4)[:2]))
    teach(model, questions(4), questions(4, 3, seed=2))
    return model


def logits(model: Any) -> torch.Tensor:
    """What it says to the four taught questions."""
    with torch.no_grad():
        return model(input_ids=questions(4)).logits


def assert_same(found: Any, expected: Any) -> None:
    """Two models agree in every bit: logits, router, anchors, rows (optimizers are not saved), null key."""
    first, second = inner(found), inner(expected)
    assert torch.equal(logits(found), logits(expected))
    states = [tuner.router.state_dict() for tuner in (first, second)]
    states += [tuner.router.anchors.tensors() for tuner in (first, second)]
    states += [tuner.bank.members(optimizer=False) for tuner in (first, second)]
    for here, there in zip(states[::2], states[1::2], strict=True):
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here)
    assert first.router.min_score == second.router.min_score == second.settings.min_score
