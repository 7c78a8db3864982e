"""A MoME model leaves an untouched backbone alone to the bit, learns, and can be switched off."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModelForCausalLM, get_peft_model
from tiny_models import (
    FAMILIES,
    HIDDEN,
    LAYERS,
    inner,
    make_backbone,
    make_model,
    padded,
    query,
    questions,
    settings,
    teach,
)
from transformers import PreTrainedModel

from mome.adapter.layer import MomeLinear
from mome.adapter.model import MomeConfig, mome_model
from mome.lm.decoder import decoder_layers, states_before, without_layers
from mome.lm.loading import load_backbone

pytestmark = pytest.mark.usefixtures("one_thread")


def logits(model: Any, **batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).logits


# --- an untouched bank ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocast", [False, True], ids=["f32", "bf16 autocast"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_untouched_bank_leaves_the_logits_bit_identical(family: str, autocast: bool) -> None:
    batch = padded([*questions(2), questions(1, 5)[0]], "left")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        before = logits(make_backbone(family), **batch)
        model = make_model(family)
        assert torch.equal(logits(model, **batch), before)
        model.train()  # the rows are there, their b is zero
        after = model(**batch).logits
    assert torch.equal(after, before)
    assert inner(model).blocks[0].rows.keys() == inner(model).bank.shapes.keys()


def test_the_shipped_backbone_takes_a_million_experts_and_keeps_its_bits() -> None:
    backbone = load_backbone("tiny-llama", "cpu")
    batch = backbone.tokenizer(
        ["Q: Who wrote Emma?\nA:", "Q: What is the capital of Peru?\nA:"], return_tensors="pt", padding=True
    )
    before = logits(backbone.model, **batch)
    model = get_peft_model(backbone.model, MomeConfig(num_experts=1_000_000, router_layer=2, task_type="CAUSAL_LM"))
    assert isinstance(model, PeftModelForCausalLM)
    assert torch.equal(logits(model, **batch), before)
    assert inner(model).selection.routes.ids.shape == (2, 32)


# --- a trained bank ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_learn_and_can_be_switched_off(family: str) -> None:
    ids, answers = questions(4), questions(4, 3, seed=2)
    before = logits(make_backbone(family), input_ids=ids)
    model = make_model(family)
    losses = teach(model, ids, answers, steps=12)
    assert losses[-1] < losses[0] / 2
    taught = logits(model, input_ids=ids)
    assert not torch.equal(taught, before)
    with model.disable_adapter():
        assert torch.equal(logits(model, input_ids=ids), before)
    assert torch.equal(logits(model, input_ids=ids), taught)


def test_only_the_rows_of_chosen_experts_change() -> None:
    model = make_model()
    teach(model, questions(2), questions(2, 3, seed=2), steps=1)
    model(input_ids=questions(2))
    assert inner(model).bank.touched().tolist() == inner(model).selection.routes.ids.unique().tolist()


def test_a_question_of_untouched_experts_gets_the_bits_of_the_backbone() -> None:
    """Also beside a question whose experts are trained."""
    model, both = make_model(num_experts=65_536), questions(2)
    teach(model, both[:1], questions(1, 3, seed=2))
    chosen = [set(row.tolist()) for row in inner(model).router.select(query(model, both))[0]]
    assert not chosen[0] & chosen[1]
    plain, taught = logits(make_backbone(), input_ids=both), logits(model, input_ids=both)
    assert torch.equal(taught[1], plain[1])
    assert not torch.equal(taught[0], plain[0])


@pytest.mark.parametrize("target_modules", [None, ["q_proj", "down_proj"], r".*\.1\..*_proj", "all-linear"])
def test_n_equals_k_with_unit_weights_is_lora(target_modules: Any) -> None:
    """32 experts, all chosen, of weight 1: PEFT's LoRA of rank 32 with alpha 32, outputs and gradients."""
    changes = {"num_experts": 32, "top_k": 32, "index": "flat", "temperature": None, "router_layer": 0}
    model = make_model(target_modules=target_modules, **changes)
    tuner = inner(model)
    modules = target_modules or ["gate_proj", "up_proj", "down_proj"]
    lora = get_peft_model(make_backbone(), LoraConfig(r=32, lora_alpha=32, target_modules=modules))
    everyone, generator = torch.arange(32), torch.Generator().manual_seed(3)
    rows = {
        name: 0.1 * torch.randn(values.shape, generator=generator) for name, values in tuner.bank.read(everyone).items()
    }
    tuner.bank.write(everyone, rows)
    adapted = {name: part for name, part in lora.base_model.model.named_modules() if hasattr(part, "lora_A")}
    assert adapted.keys() == rows.keys()
    for name, part in adapted.items():
        a, b = tuner.bank.split(name, rows[name])
        part.lora_A["default"].weight.data.copy_(a[:, 0])
        part.lora_B["default"].weight.data.copy_(b[:, 0].T)
    model.train(), lora.train()
    ids = questions(3)
    results = [
        part(input_ids=ids, labels=torch.cat([torch.full((3, 5), -100), ids[:, 5:]], dim=1)) for part in (model, lora)
    ]
    torch.testing.assert_close(results[0].logits, results[1].logits, rtol=1e-5, atol=1e-5)
    for result in results:
        result.loss.backward()
    (block,) = tuner.blocks
    for name, part in adapted.items():
        a, b = tuner.bank.split(name, block.rows[name].grad)
        torch.testing.assert_close(a[:, 0], part.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(b[:, 0].T, part.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-5)
        assert b.count_nonzero() > 0


def test_a_bank_in_bfloat16_and_a_folder_serves_as_well(tmp_path: Any) -> None:
    ids, answers = questions(2), questions(2, 3, seed=2)
    model = make_model(dtype="bfloat16", storage=str(tmp_path / "bank"))
    losses = teach(model, ids, answers, steps=12)
    assert losses[-1] < losses[0] / 2
    assert list((tmp_path / "bank").glob("*.table"))


# --- what is adapted, what is refused ------------------------------------------------------------------------------


def test_only_layers_from_the_routers_upward_are_adapted() -> None:
    model = make_model(router_layer=1, target_modules=["q_proj", "down_proj"])
    names = {name for name, part in model.base_model.model.named_modules() if isinstance(part, MomeLinear)}
    parts = ("self_attn.q_proj", "mlp.down_proj")
    assert names == {f"model.layers.{layer}.{part}" for layer in (1, 2) for part in parts}
    assert inner(model).bank.shapes[f"model.layers.1.{parts[0]}"] == (HIDDEN, HIDDEN)


def test_nothing_but_the_router_is_a_parameter_to_train() -> None:
    names = {name for name, value in make_model().named_parameters() if value.requires_grad}
    assert names == {f"base_model.mome_router.default.{name}" for name in ("pool", "project")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"router_layer": LAYERS}, rf"router_layer must be below {LAYERS} here, got {LAYERS}"),
        ({"target_modules": ["input_layernorm"]}, "target_modules: model.layers.1.input_layernorm is a LlamaRMSNorm"),
        ({"target_modules": ["nothing"]}, "nothing"),
    ],
)
def test_settings_that_do_not_fit_the_backbone_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(**changes)


def test_a_second_adapter_and_merging_are_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="one MoME adapter"):
        model.add_adapter("other", settings())
    with pytest.raises(NotImplementedError, match="merged"):
        model.merge_and_unload()


def test_gradient_checkpointing_is_refused_by_name() -> None:
    model = make_model()
    model.gradient_checkpointing_enable()
    logits(model, input_ids=questions(1))
    with pytest.raises(ValueError, match="gradient_checkpointing is not supported"):
        model.train()(input_ids=questions(1))


def test_training_passes_that_no_optimizer_takes_are_refused_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mome.adapter.hooks.MOST_BLOCKS", 2)
    model = make_model().train()
    for _ in range(2):
        model(input_ids=questions(1))
    with torch.no_grad():
        model(input_ids=questions(1))
    with pytest.raises(RuntimeError, match="2 training passes without an optimizer step"):
        model(input_ids=questions(1))


# --- parts of a decoder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_states_before_a_layer_are_those_of_a_whole_pass(family: str) -> None:
    backbone, batch = make_backbone(family), padded([*questions(2), questions(1, 5)[0]], "left")
    positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        whole = backbone(**batch, position_ids=positions, output_hidden_states=True).hidden_states
        for layer in range(LAYERS):
            states = states_before(backbone, layer, batch["input_ids"], batch["attention_mask"], positions)
            assert torch.equal(states, whole[layer])


def test_a_view_without_layers_leaves_the_model_as_it_is() -> None:
    backbone, ids = make_backbone(), questions(2)
    layers, before = list(decoder_layers(backbone)), logits(backbone, input_ids=ids)
    view = without_layers(backbone, 1, 3)
    with torch.no_grad():
        states = backbone(input_ids=ids, output_hidden_states=True).hidden_states[1]
        expected = backbone.lm_head(backbone.model.norm(states))
    assert torch.equal(logits(view, input_ids=ids), expected)
    assert all(now is before for now, before in zip(decoder_layers(backbone), layers, strict=True))
    assert torch.equal(logits(backbone, input_ids=ids), before)


def test_a_model_without_such_layers_is_refused() -> None:
    class Other(PreTrainedModel):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def get_decoder(self) -> torch.nn.Module:
            return torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="Other: no list of decoder layers"):
        decoder_layers(Other())


def test_other_peft_models_have_no_memory() -> None:
    lora = get_peft_model(make_backbone(), LoraConfig(target_modules=["q_proj"]))
    assert mome_model(lora) is None
    assert mome_model(make_backbone()) is None
