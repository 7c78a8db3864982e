"""How a model is looked at before and after it learned a fact: token by token, and bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

import pandas
import torch
from torch import Tensor

from mome.facts.fact import Fact
from mome.lm.encoding import collate, encode_prompts, encode_question
from mome.lm.loading import Backbone
from mome.lm.losses import answer_losses, reads_prompts


def token_losses(backbone: Backbone, fact: Fact) -> pandas.DataFrame:
    """The answer of `fact` token by token, its end included: columns token, loss (nats) and probability."""
    encoded = encode_question(backbone.tokenizer, fact.question, fact.answer)
    batch = collate([encoded], backbone.tokenizer.pad_token_id, backbone.device)
    with torch.no_grad():
        losses = answer_losses(backbone.model, batch)[batch.answer_mask > 0].cpu()
    tokens = batch.ids[0, -int(batch.answer_mask.sum()) :]
    texts = [backbone.tokenizer.decode(token) for token in tokens]
    return pandas.DataFrame({"token": texts, "loss": losses, "probability": (-losses).exp()})


def same_bits(one: Backbone, other: Backbone, facts: Sequence[Fact]) -> list[bool]:
    """For each fact, whether both models compute the same logits for its question, to the last bit."""
    return [torch.equal(_logits(one, fact), _logits(other, fact)) for fact in facts]


def _logits(backbone: Backbone, fact: Fact) -> Tensor:
    """The logits [1, T, V] of the question of `fact`, as it is asked."""
    ids, mask, read = (values.to(backbone.device) for values in encode_prompts(backbone.tokenizer, [fact.question]))
    routed = {"prompt_mask": read} if reads_prompts(backbone.model) else {}
    with torch.no_grad():
        return backbone.model(input_ids=ids, attention_mask=mask, **routed).logits
