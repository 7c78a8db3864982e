"""A model is looked at token by token, and bit by bit."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.lm.losses import fact_losses
from mome.replication.paper.start_here.looking import same_bits, token_losses


def test_the_tokens_spell_the_answer_and_have_the_losses_of_the_model(backbone: Backbone, facts: list[Fact]):
    found = token_losses(backbone, facts[0])
    (losses,) = fact_losses(backbone.model, backbone.tokenizer, facts[:1])
    assert "".join(found["token"]).strip().startswith(facts[0].answer)
    torch.testing.assert_close(torch.tensor(found["loss"].to_numpy()), torch.as_tensor(losses))
    assert found["probability"].tolist() == pytest.approx([math.exp(-loss) for loss in found["loss"]], rel=1e-5)


def test_a_model_has_the_bits_of_its_copy_and_not_those_of_one_that_was_moved(backbone: Backbone, facts: list[Fact]):
    other = replace(backbone, model=copy.deepcopy(backbone.model))
    assert same_bits(backbone, other, facts[:3]) == [True] * 3
    with torch.no_grad():
        next(other.model.parameters()).mul_(1.01)
    assert same_bits(backbone, other, facts[:3]) == [False] * 3
