"""Counts of work are the same on each run, and they show whatever grows with the bank."""

import torch

from mome.adapter.bank import Bank
from mome.lm.loading import load_backbone
from mome.replication.counting.flops import Decoder, Pass, forward, linear, lookup
from mome.replication.counting.work import lookup_work, token_work, work_of


def test_products_and_the_tensors_that_are_made_by_hand():
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    work = work_of(lambda: (left @ right).mul(2.0).view(-1))
    assert work.flops == linear(3, 4, 5) + 2 * 15
    assert work.bytes == 2 * 15 * 4  # the product and its double; a view makes nothing
    assert work_of(lambda: left.mul_(2.0)).bytes == 0


def test_a_table_of_the_banks_size_shows_and_chosen_rows_do_not():
    def read(experts: int) -> int:
        bank = Bank(experts, {"layer": (8, 8)})
        return work_of(lambda: bank.read(torch.tensor([1, 5]))).bytes

    small, large = Bank(64, {"layer": (8, 8)}), Bank(4096, {"layer": (8, 8)})
    assert read(64) == read(4096) > 0
    whole = [work_of(lambda bank=bank: bank.tables["rows/layer"].clone()).bytes for bank in (small, large)]
    assert whole[1] == 64 * whole[0]


def test_product_keys_score_halves_and_flat_keys_score_all():
    for experts, found in lookup_work([256, 4096], k=4, size=16).items():
        half = int(experts**0.5)
        assert lookup(1, (half, half), 16) <= found["product_key"] <= 2 * lookup(1, (half, half), 16)
        assert found["flat"] >= linear(1, 16, experts)
    found = lookup_work([64, 65_536], k=4, size=16)
    assert found[65_536]["product_key"] < 64 * found[64]["product_key"]
    assert found[65_536]["flat"] > 512 * found[64]["flat"]


def test_a_token_takes_what_the_closed_form_says(backbone_folder):
    model = load_backbone(str(backbone_folder)).model
    closed = forward(Decoder.of(model.config), Pass(1, 1, model.config.num_hidden_layers, 1))
    assert closed <= token_work(str(backbone_folder)) <= 1.1 * closed
