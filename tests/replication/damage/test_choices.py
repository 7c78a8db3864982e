"""Choices against one whole pass for each; which MMLU questions can be asked without their choices."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from public_files import published

from mome.facts.public_sets import MultipleChoice
from mome.lm.loading import Backbone
from mome.replication.damage.choices import _stands_alone, choose, cloze_items, flips, truthfulqa_items

PERU = MultipleChoice("1", "What is the capital of Peru?", ("Lima", "It is Bamako, as some say", "Rome"), (0,), "s", "")
EMMA = MultipleChoice("2", "Who wrote Emma?", ("Nobody", "Jane Austen wrote it", "I", "A fox"), (1, 3), "s", "")
LONG = [
    replace(PERU, id=f"l{n}", question=f"{'And ' * n}who?", choices=("a", "b c", "No, not at all")) for n in range(15)
]
SETS = {"truthfulqa_mc1": [PERU, *LONG], "truthfulqa_mc2": [PERU, EMMA], "mmlu_cloze": [PERU, *LONG]}


@torch.no_grad()
def alone(backbone: Backbone, item: MultipleChoice) -> list[float]:
    """The log-likelihood of each choice, read with its question in one pass in f64."""
    model, found = copy.deepcopy(backbone.model).double(), []
    context = f"Q: {item.question}\nA:"
    start = len(backbone.tokenizer(context)["input_ids"])
    for choice in item.choices:
        ids = torch.tensor(backbone.tokenizer(f"{context} {choice}")["input_ids"])
        scores = model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
        found.append(float(scores[start - 1 : -1].gather(1, ids[start:, None]).sum()))
    return found


def test_choices_are_scored_as_in_a_pass_of_their_own(random_backbone: Backbone) -> None:
    table = choose(random_backbone, SETS)
    assert table["set"].unique().tolist() == [*SETS, "mmlu_cloze_total"]
    for row in table.to_dict("records"):
        item = next(item for item in [PERU, EMMA, *LONG] if item.id == row["item"])
        wanted = alone(random_backbone, item)
        assert row["log_likelihoods"] == pytest.approx(wanted, abs=1e-4)
        by_length = row["set"] == "mmlu_cloze"
        scores = [
            score / len(choice) if by_length else score for score, choice in zip(wanted, item.choices, strict=True)
        ]
        assert row["choice"] == int(numpy.argmax(scores))
        if row["set"] == "truthfulqa_mc2":
            shares = numpy.exp(wanted) / numpy.exp(wanted).sum()
            assert row["value"] == pytest.approx(float(shares[list(item.correct)].sum()), abs=1e-4)
        else:
            assert row["value"] == float(row["choice"] in item.correct)


def test_flips_are_paired(random_backbone: Backbone) -> None:
    before = choose(random_backbone, {"truthfulqa_mc1": [PERU, *LONG]})
    assert not flips(before, before)[["flipped", "up", "down"]].any(axis=None)
    assert flips(before, before)["same"].all()
    after = before.assign(choice=[1 - min(choice, 1) for choice in before["choice"]])
    after["value"] = [float(choice == 0) for choice in after["choice"]]
    found = flips(before, after)
    assert found["flipped"].all()
    assert (found["up"] == ((before["value"] == 0) & (after["value"] == 1))).all()
    assert (found["down"] == ((before["value"] == 1) & (after["value"] == 0))).all()
    moved = before.assign(log_likelihoods=[(a + 1e-12, *b) for a, *b in before["log_likelihoods"]])
    assert not flips(before, moved)["same"].any()
    with pytest.raises(ValueError, match="same questions"):
        flips(before, after[1:])


@pytest.mark.parametrize(
    ("changes", "able"),
    [
        ({}, True),
        ({"question": "The capital of Peru is"}, False),
        ({"question": "Which of the following is the capital?"}, False),
        ({"question": "Is __ the capital?"}, False),
        ({"choices": ("Lima", "All of the above", "Rome")}, False),
        ({"choices": ("Lima", "Both A and B", "Rome")}, False),
        ({"choices": ("Lima", "Lima", "Rome")}, False),
        ({"choices": ("Lima", "Rome " * 80, "Rome")}, False),
        ({"question": "What " * 80 + "?"}, False),
    ],
)
def test_a_cloze_question_stands_alone(changes: dict[str, str], able: bool) -> None:
    assert _stands_alone(replace(PERU, **changes)) == able


def test_the_published_sets_give_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = published()
    monkeypatch.setenv("MOME_PUBLIC_DATA", str(folder))
    assert len(truthfulqa_items("mc1")) == len(truthfulqa_items("mc2")) == 817
    drawn = cloze_items()
    assert len({item.id for item in drawn}) == 1_000
    assert [item.id for item in cloze_items(10)] == [item.id for item in drawn[:10]]
    assert [item.id for item in cloze_items(10, seed=1)] != [item.id for item in drawn[:10]]
