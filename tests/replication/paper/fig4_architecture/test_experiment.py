"""What is said of a model's architecture is what the model has."""

import pytest
import torch
from tiny_models import HIDDEN, LAYERS, VOCABULARY, inner, make_backbone, make_model, taught_model

from mome.adapter.index import ProductKeyIndex
from mome.replication.paper.fig4_architecture.experiment import FEW, read_architecture


def test_sizes_and_places_are_the_models():
    model = make_model(router_layer=1, layers_to_transform=[2], target_modules=["gate_proj", "q_proj"])
    found, tuner = read_architecture(model), inner(model)
    assert (found.layers, found.hidden, found.vocabulary, found.router_layer) == (LAYERS, HIDDEN, VOCABULARY, 1)
    assert found.backbone_parameters == sum(part.numel() for part in make_backbone().parameters())
    assert found.router_parameters == sum(part.numel() for part in tuner.router.parameters())
    assert found.adapted == {"model.layers.2.self_attn.q_proj": (32, 32), "model.layers.2.mlp.gate_proj": (32, 48)}
    assert found.modules_of(2) == list(found.adapted) and not found.modules_of(1)
    assert isinstance(tuner.router.index, ProductKeyIndex) and found.halves == (32, 32)
    assert (found.num_experts, found.top_k, found.anchors) == (1024, 8, 0)
    assert read_architecture(make_model(index="flat")).halves is None


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_the_bank_weighs_what_its_tables_do(dtype, size):
    model = make_model(dtype=dtype, rank=2)
    found, tuner = read_architecture(model), inner(model)
    tables = [table for name, table in tuner.bank.tables.items() if name.startswith("rows/")]
    assert found.bank_bytes == sum(table.nbytes for table in tables) == size * 1024 * found.expert_parameters
    assert found.expert_parameters == sum(tuner.bank.width(module) for module in tuner.bank.shapes)


def test_touched_counts_the_rows_written():
    assert read_architecture(make_model()).touched_bytes == 0
    taught = taught_model()
    found = read_architecture(taught)
    assert found.touched == len(inner(taught).bank.touched()) > 0
    assert found.touched_bytes * 1024 == found.bank_bytes * found.touched


def test_frozen_is_what_takes_no_gradients():
    model = make_model()
    found = read_architecture(model)
    assert all(found.frozen) and not found.router_frozen
    inner(model).router.requires_grad_(False)
    torch.nn.Module.requires_grad_(inner(model).model.model.layers[1], True)
    found = read_architecture(model)
    assert found.frozen == (True, False, True) and found.router_frozen
    states = dict(zip(found.table()["part"], found.table()["training"], strict=True))
    assert (states["backbone"], states["router"]) == ("takes gradients", "frozen")


def test_few_layers_stand_alone_and_many_equal_ones_together():
    found = read_architecture(make_model(router_layer=1, layers_to_transform=[2], target_modules=["gate_proj"]))
    assert found.layer_groups() == [(0, 0, ()), (1, 1, ()), (2, 2, ("gate_proj",))]
    values = {name: getattr(found, name) for name in found.__slots__}
    deep = type(found)(**{**values, "layers": FEW + 4})
    assert deep.layer_groups() == [(0, 0, ()), (1, 1, ()), (2, 2, ("gate_proj",)), (3, FEW + 3, ())]


def test_a_model_without_experts_is_refused():
    with pytest.raises(ValueError, match="no MoME adapter"):
        read_architecture(make_backbone())
