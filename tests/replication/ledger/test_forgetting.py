"""Who keeps unrelated answers as they were: the rejection threshold, the experts, neither, or not decided."""

from __future__ import annotations

import pytest

from mome.replication.ledger.forgetting import SAID, giver
from mome.replication.notebook.results import Metric


def share(low: float, high: float) -> Metric:
    return Metric(value=(low + high) / 2, unit="share", n=900, ci95=(low, high))


ALIKE, MORE, FEWER, WIDE = share(-0.004, 0.006), share(0.02, 0.05), share(-0.05, -0.02), share(-0.02, 0.03)


@pytest.mark.parametrize(
    ("gate", "experts", "who"),
    [
        (share(0.9, 1), ALIKE, "gate"),
        (share(0.9, 1), MORE, "experts"),
        (share(0.9, 1), FEWER, "LoRA behind the gate"),
        (ALIKE, ALIKE, "neither"),
        (share(0.9, 1), WIDE, ""),
        (WIDE, ALIKE, ""),
        (share(0.9, 1), Metric(value=0.0, unit="share", n=1), ""),
    ],
)
def test_gate_and_experts_are_told_apart_by_the_paired_differences(gate: Metric, experts: Metric, who: str):
    assert giver({"unrelated_unchanged_by_gate": gate, "unrelated_unchanged_by_experts": experts}) == who and SAID[who]


def test_who_gives_it_is_not_known_without_lora_behind_the_threshold():
    assert giver({"unrelated_unchanged_by_experts": MORE}) == ""
