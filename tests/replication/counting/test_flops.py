"""Closed forms against what torch counts, to the last product, and against hand values."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import FAMILIES, make_backbone
from torch.utils.flop_counter import FlopCounterMode

from mome.replication.counting.flops import (
    LLAMA_3_8B,
    Decoder,
    Pass,
    forward,
    full_step,
    lora_step,
    memory_check,
    memory_step,
)

BATCH = Pass(rows=3, tokens=11, layers=3, scored=5)


def counted(model: Any, backward: bool) -> int:
    ids = torch.randint(3, 100, (BATCH.rows, BATCH.tokens))
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        loss = model(input_ids=ids, use_cache=False, logits_to_keep=BATCH.scored).logits.sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.fixture(params=FAMILIES)
def backbone(request) -> Any:
    """With the attention of `load_backbone` on a CPU."""
    model = make_backbone(request.param)
    model.set_attn_implementation("eager")
    return model


def test_forward_is_what_torch_counts(backbone):
    assert forward(Decoder.of(backbone.config), BATCH) == counted(backbone, backward=False)


def test_a_full_step_is_what_torch_counts(backbone):
    backbone.requires_grad_(True)
    assert full_step(Decoder.of(backbone.config), BATCH) == counted(backbone, backward=True)


@pytest.mark.parametrize("rank", [1, 4])
def test_a_lora_step_is_what_torch_counts(backbone, rank):
    decoder = Decoder.of(backbone.config)
    model = get_peft_model(backbone, LoraConfig(r=rank, target_modules="all-linear"))
    assert lora_step(decoder, BATCH, rank) == counted(model, backward=True)


def test_forward_of_a_smallest_decoder_by_hand():
    decoder = Decoder(layers=1, hidden=2, intermediate=3, heads=2, key_value_heads=1, head_size=1, vocabulary=7)
    weights = 2 * 2 + 2 * 1 + 2 * 1 + 2 * 2 + 3 * (2 * 3)
    assert decoder.layer_parameters == weights == 30
    # 5 tokens through 30 weights, scores and values of 2 heads over 5 x 5 pairs, logits of 2 tokens
    assert forward(decoder, Pass(1, 5, 1, 2)) == 2 * 5 * 30 + 2 * 2 * 2 * 25 + 2 * 2 * 2 * 7


def test_long_texts_apart_the_closed_forms_are_the_rules_of_thumb():
    """6 N D for full training, 4 N D with frozen weights; N without the embeddings, D tokens, all of them scored."""
    batch = Pass(rows=64, tokens=8, layers=32, scored=8)
    head = LLAMA_3_8B.hidden * LLAMA_3_8B.vocabulary
    weights = LLAMA_3_8B.layers * LLAMA_3_8B.layer_parameters + head
    assert weights + head == pytest.approx(8.03e9, rel=1e-3)  # input and output embeddings apart: the 8B of the name
    assert full_step(LLAMA_3_8B, batch) == pytest.approx(6 * weights * batch.size, rel=1e-3)
    assert lora_step(LLAMA_3_8B, batch, rank=1) == pytest.approx(4 * weights * batch.size, rel=1e-2)


def test_memory_experts_cost_the_upper_half_and_their_own_products():
    batch = Pass(rows=2, tokens=9, layers=1, scored=3)
    decoder = Decoder(layers=2, hidden=4, intermediate=6, heads=2, key_value_heads=2, head_size=2, vocabulary=10)
    # back through the frozen weights: the logits of 2 x 3 tokens, and down_proj for all 2 x 9
    frozen = forward(decoder, batch) + 2 * 6 * 4 * 10 + 2 * 18 * 6 * 4
    # a . x and b forward; back b twice (its own gradient, and that of what it takes in) and a once
    down, up = 2 * 18 * 4 * 3, 2 * 18 * 3 * 6
    assert memory_step(decoder, batch, top_k=3) == frozen + (down + up) + (2 * up + down)
    assert memory_check(decoder, batch, adapted=1, top_k=3) == forward(decoder, batch) + down + up
