"""ROME's closed form is what an independent solver finds, and an edit changes one matrix by one rank and one answer."""

import numpy
import pytest
import torch

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.generation import greedy_answers
from mome.lm.loading import load_backbone
from mome.replication.methods.rome import Rome, RomeSettings, rank_one

SETTINGS = RomeSettings(layer=0, prefixes=0, steps=80, learning_rate=0.5, clamp=40.0, decay=0.01)
PREFIXED = SETTINGS.model_copy(update={"prefixes": 2, "prefix_tokens": 3})


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    """A weight [5, 8], a key, a value and the covariance of 40 general keys, all f64."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"weight": (5, 8), "key": (8,), "value": (5,), "keys": (8, 40)}
    found = {name: torch.randn(*shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    keys = found.pop("keys")
    return {**found, "covariance": keys @ keys.T / 40}


def test_after_the_change_the_key_gives_the_value(problem):
    changed = problem["weight"] + rank_one(**problem)
    assert torch.allclose(changed @ problem["key"], problem["value"], atol=1e-10)
    assert torch.linalg.matrix_rank(rank_one(**problem)) == 1


def test_the_change_is_the_least_in_the_norm_of_the_covariance(problem):
    """Against the linear system of Lagrange: minimize tr(D C D^T) subject to D k = v - W k, row by row."""
    key, covariance = problem["key"].numpy(), problem["covariance"].numpy()
    missing = (problem["value"] - problem["weight"] @ problem["key"]).numpy()
    system = numpy.block([[2 * covariance, key[:, None]], [key[None], numpy.zeros((1, 1))]])
    expected = [numpy.linalg.solve(system, [*numpy.zeros(len(key)), value])[: len(key)] for value in missing]
    assert rank_one(**problem).numpy() == pytest.approx(numpy.array(expected), abs=1e-10)


def test_the_change_keeps_a_least_squares_memory_best_but_for_the_edit(problem):
    """The paper's derivation: W fits values to keys; the edited W fits them best among all with W' k = v."""
    generator = torch.Generator().manual_seed(4)
    keys, values = (torch.randn(size, 40, generator=generator, dtype=torch.float64).numpy() for size in (8, 5))
    weight = values @ keys.T @ numpy.linalg.inv(keys @ keys.T)
    key, value = problem["key"].numpy(), problem["value"].numpy()
    system = numpy.block([[keys @ keys.T, key[:, None]], [key[None], numpy.zeros((1, 1))]])
    right = numpy.concatenate([keys @ values.T, value[None]])
    expected = numpy.linalg.solve(system, right)[:8].T
    change = rank_one(*(torch.from_numpy(part) for part in (weight, key, value, keys @ keys.T / 40)))
    assert weight + change.numpy() == pytest.approx(expected, abs=1e-10)


def test_a_covariance_of_too_few_keys_is_refused(problem, backbone, facts):
    lone = torch.outer(problem["key"], problem["key"])
    with pytest.raises(ValueError, match="the covariance of 8 key dimensions is singular"):
        rank_one(**{**problem, "covariance": lone})
    with pytest.raises(ValueError, match=r"\d+ tokens of text: the covariance of 64 key dimensions needs as many"):
        Rome(backbone, SETTINGS, facts[:2])
    with pytest.raises(ValueError, match="layer 2: the model has only layers 0 to 1"):
        Rome(backbone, RomeSettings(layer=2), facts)


@pytest.fixture
def worded(facts: list[Fact]) -> list[Fact]:
    """Text enough for the covariance."""
    return [Fact(text, text, fact.answer) for fact in facts for text in fact.wordings()]


@pytest.fixture
def rome(backbone, worded) -> Rome:
    return Rome(backbone, SETTINGS, worded)


def test_an_edit_changes_one_matrix_by_one_rank_and_the_answer():
    """On a shipped backbone: in a random one nothing is read where a subject ends."""
    settings = RomeSettings(layer=1, prefixes=0, steps=50, learning_rate=20.0, clamp=10.0)
    shipped = load_backbone("tiny-llama")
    rome = Rome(shipped, settings, shipped_facts("known")[::3])
    before = {name: values.clone() for name, values in rome.model.named_parameters()}
    question = "What is the licence plate code of the Turkish province of Adana?"
    assert rome.answer([question]) == ["01"]
    done = rome.edit(Fact("adana", question, "28"), "Adana")
    assert rome.answer([question]) == ["28"]
    assert done.losses[-1] < 0.1 * done.losses[0]
    changed = [name for name, values in rome.model.named_parameters() if not torch.equal(values, before[name])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    sizes = torch.linalg.svdvals((rome.projection.weight - before[changed[0]]).double())
    assert sizes[1] < 1e-5 * sizes[0]
    assert (rome.projection.weight @ done.key - done.value).norm() < 1e-5 * done.value.norm()


def test_edits_follow_one_another_on_the_edited_weights(rome, facts, full_precision):
    first = rome.edit(Fact("peru", "What is the capital of Peru?", "Tehran"), "Peru")
    weight = rome.projection.weight.clone()
    second = rome.edit(Fact("emma", "In which year did Emma appear?", "1922"), "Emma")
    expected = weight.double() + rank_one(weight, second.key, second.value, rome.covariance)
    assert torch.equal(rome.projection.weight, expected.float())
    assert not torch.allclose(rome.projection.weight @ first.key, first.value, atol=1e-6)  # disturbed, if little


def test_the_key_is_taken_where_the_subject_ends(backbone, worded):
    rome = Rome(backbone, PREFIXED, worded)
    told = Fact("peru", "What is the capital of Peru?", "Tehran")
    rows, places = rome._rows(told, "Peru")
    assert len(rows) == len(places) == 1 + PREFIXED.prefixes + 1
    for row, place in zip(rows, places, strict=True):
        up_to = rome.tokenizer.decode(row.ids[: len(row.ids) - place + 1], skip_special_tokens=True)
        assert up_to.endswith("Peru")
    with pytest.raises(ValueError, match="the subject 'Chile' does not occur in 'Q: What is"):
        rome.edit(told, "Chile")


def test_the_same_seed_gives_the_same_prefixes_and_another_seed_others(backbone, worded):
    first, again, other = (Rome(backbone, PREFIXED.model_copy(update={"seed": seed}), worded) for seed in (0, 0, 1))
    assert first.prefixes == again.prefixes != other.prefixes
    assert [len(prefix) for prefix in first.prefixes] == [2, 3]


def test_a_tokenizer_that_adds_no_tokens_has_prefixes_too(backbone, worded, monkeypatch):
    rows = vars(backbone.tokenizer)["_tokenizer"].post_processor
    try:
        vars(backbone.tokenizer)["_tokenizer"].post_processor = None
        assert backbone.tokenizer("")["input_ids"] == []
        bare = Rome(backbone, PREFIXED, worded)
    finally:
        vars(backbone.tokenizer)["_tokenizer"].post_processor = rows
    assert [len(prefix) for prefix in bare.prefixes] == [2, 3]


def test_answers_are_the_edited_models(rome, facts):
    questions = [fact.question for fact in facts[:2]]
    assert rome.answer(questions) == greedy_answers(rome.model, rome.tokenizer, questions)
