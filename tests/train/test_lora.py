"""LoRA: a fresh adapter is invisible, has the parameters of the closed form, and merges to W + scale * B A."""

import copy

import pytest
import torch
from learned import Learned
from peft.tuners.lora import LoraLayer

from mome.facts.fact import Fact
from mome.lm.encoding import collate, encode_question
from mome.lm.loading import Backbone
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings

RANK = 4


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def body_linears(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The linear modules of a plain model, the head left out."""
    return {
        name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and name != "lm_head"
    }


@pytest.mark.parametrize("layers", [None, [1]], ids=["all layers", "one layer"])
def test_a_fresh_adapter_leaves_the_logits_unchanged(
    layers: list[int] | None, backbone: Backbone, facts: list[Fact]
) -> None:
    batch = collate([encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts], padding=0)
    before = backbone.model(input_ids=batch.ids, attention_mask=batch.mask).logits
    model = attach_lora(backbone, LoraSettings(rank=RANK, layers=layers), seed=0)
    assert torch.equal(model(input_ids=batch.ids, attention_mask=batch.mask).logits, before)


def test_trainable_parameters_are_those_of_the_closed_form(backbone: Backbone) -> None:
    """r (d_in + d_out) for each linear module: q, k, v, o, gate, up and down of two layers."""
    shapes = [(part.in_features, part.out_features) for part in body_linears(backbone.model).values()]
    assert len(shapes) == 14
    model = attach_lora(backbone, LoraSettings(rank=RANK), seed=0)
    counted = sum(value.numel() for value in trainable(model).values())
    assert counted == RANK * sum(wide + high for wide, high in shapes) == RANK * 2 * 512
    assert all("lora_" in name and value.dtype == torch.float32 for name, value in trainable(model).items())


@pytest.mark.parametrize(
    ("settings", "parts", "count"),
    [
        ({"layers": [1]}, {f"layers.1.{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}, 7),
        ({"layers": [0], "target_modules": r".*\.[qv]_proj"}, {"layers.0.q_proj", "layers.0.v_proj"}, 2),
        ({"target_modules": r".*\.[qv]_proj"}, {f"layers.{i}.{part}_proj" for i in (0, 1) for part in "qv"}, 4),
    ],
)
def test_only_the_chosen_modules_are_adapted(
    settings: dict[str, object], parts: set[str], count: int, backbone: Backbone
) -> None:
    model = attach_lora(backbone, LoraSettings.model_validate({"rank": RANK, **settings}), seed=0)
    names = {name.split(".lora_")[0].replace("self_attn.", "").replace("mlp.", "") for name in trainable(model)}
    assert {name.removeprefix("base_model.model.model.") for name in names} == parts
    assert len(parts) == count


@pytest.mark.parametrize(("rank", "scale"), [(32, 2.0), (1, 0.3), (3, 0.5)])
def test_the_scale_is_the_one_that_was_set(rank: int, scale: float, backbone: Backbone) -> None:
    model = attach_lora(backbone, LoraSettings(rank=rank, scale=scale), seed=0)
    found = [part.scaling["default"] for part in model.modules() if isinstance(part, LoraLayer)]
    assert len(found) == 14
    assert found == pytest.approx([scale] * 14)


def test_the_seed_decides_the_adapter(random_backbone: Backbone) -> None:
    def attached(seed: int) -> dict[str, torch.Tensor]:
        copied = Backbone("copy", copy.deepcopy(random_backbone.model), random_backbone.tokenizer)
        return trainable(attach_lora(copied, LoraSettings(rank=RANK), seed))

    first, again, other = attached(0), attached(0), attached(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(first[name], other[name]) == ("lora_B" in name) for name in first)
    assert all(value.count_nonzero() == 0 for name, value in first.items() if "lora_B" in name)


def test_merged_weights_are_w_plus_scaled_b_a(learned: Learned, random_backbone: Backbone) -> None:
    adapter = {name: value.double() for name, value in trainable(learned.model).items()}
    merged = body_linears(copy.deepcopy(learned.model).merge_and_unload())
    plain = body_linears(random_backbone.model)
    assert merged.keys() == plain.keys()
    for name, part in merged.items():
        low, high = (adapter[f"base_model.model.{name}.lora_{factor}.default.weight"] for factor in "AB")
        assert high.count_nonzero() > 0
        expected = plain[name].weight.double() + 2.0 * high @ low
        torch.testing.assert_close(part.weight.double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"target_modules": "nothing"}, {"layers": [2]}, {"layers": [0], "target_modules": "nothing"}]
)
def test_nothing_to_adapt_is_refused(settings: dict[str, object], backbone: Backbone) -> None:
    with pytest.raises(ValueError):
        attach_lora(backbone, LoraSettings.model_validate(settings), seed=0)
