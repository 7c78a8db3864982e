"""Router and experts trained together: routes move unless the router is frozen, and phase 1 leaves no expert behind."""

import copy
from typing import Any

import numpy
import pytest
import torch
from peft import get_peft_model
from tiny_models import inner, settings

from mome.adapter.queries import question_queries
from mome.facts.fact import Fact
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.train.fact_trainer import JointTrainer
from mome.train.joint import JointRun, train_jointly
from mome.train.progress import Progress
from mome.train.router import learn_from_answers, train_router
from mome.train.settings import MemorySettings, RouterSettings

SETTINGS = MemorySettings(epochs=30, batch_size=4, learning_rate=2e-2)
LANGUAGE = RouterSettings(objective="language", learning_rate=3e-2, spread=False)


def attached(backbone: Backbone, **changes: Any) -> Any:
    """Memory experts on a copy of the backbone."""
    return get_peft_model(copy.deepcopy(backbone.model), settings(init_scale=32.0, **changes))


def routes(model: Any, tokenizer: Any, facts: list[Fact]) -> torch.Tensor:
    """The experts [facts, K] that the keys alone choose, ascending."""
    queries = question_queries(model, tokenizer, [fact.question for fact in facts])
    return inner(model).router.select(queries)[0].sort(dim=1).values


def learned(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the router's parameters and the touched rows."""
    rows = inner(model).bank.members()
    return {**{name: value.detach().clone() for name, value in inner(model).router.named_parameters()}, **rows}


@torch.no_grad()
def logits(model: Any, tokenizer: Any, facts: list[Fact]) -> torch.Tensor:
    """What the model says to the questions."""
    return model(**tokenizer([fact.question for fact in facts], return_tensors="pt", padding=True)).logits


def joint(
    backbone: Backbone, facts: list[Fact], rate: float, memory: MemorySettings = SETTINGS, **changes: Any
) -> tuple[Any, JointRun]:
    """A model trained jointly, and its run."""
    model = attached(backbone)
    return model, train_jointly(model, backbone.tokenizer, facts, memory, router_learning_rate=rate, **changes)


def test_the_facts_of_a_frozen_router_keep_their_experts_and_those_of_a_trained_one_do_not(
    backbone: Backbone, facts: list[Fact]
) -> None:
    tokenizer = backbone.tokenizer
    before = routes(attached(backbone), tokenizer, facts)
    frozen, run = joint(backbone, facts, 0.0)
    assert (run.kept == 1).all() and run.kept_at_end == 1
    assert torch.equal(routes(frozen, tokenizer, facts), before)
    assert not run.failed and all(exact(frozen, tokenizer, facts))
    moved, run = joint(backbone, facts, 1e-2)
    assert run.kept.shape == (len(run.losses) - 1,) and run.kept.min() < 0.9 and run.kept_at_end < 0.9
    after = routes(moved, tokenizer, facts)
    same = [len({*old} & {*new}) / 8 for old, new in zip(before.tolist(), after.tolist(), strict=True)]
    assert run.kept_at_end == pytest.approx(numpy.mean(same))


def test_a_run_reports_what_its_facts_lose_at_the_routes_they_end_with(backbone: Backbone, facts: list[Fact]) -> None:
    model, run = joint(backbone, facts, 1e-2)
    assert run.losses.shape[1] == len(facts) and run.curve[-1] < 0.1 * run.curve[0] and run.rounds == 1
    assert run.failed == [fact.id for fact, loss in zip(facts, run.worst, strict=True) if loss > SETTINGS.repair_loss]
    right = exact(model, backbone.tokenizer, facts)
    assert [known for known, loss in zip(right, run.worst, strict=True) if loss < SETTINGS.repair_loss].count(
        False
    ) == 0
    assert not model.training and not any(value.requires_grad for value in inner(model).router.parameters())
    assert not inner(model).blocks and not len(inner(model).router.anchors)


def test_disturbed_facts_are_trained_again_where_repairs_are_allowed(backbone: Backbone, facts: list[Fact]) -> None:
    strict = SETTINGS.model_copy(update={"repair_loss": 0.02})
    once = joint(backbone, facts, 2e-4, strict)[1]
    assert once.failed and once.rounds == 1
    repaired = joint(backbone, facts, 2e-4, strict, repairs=3)[1]
    assert 1 < repaired.rounds <= 4 and repaired.visits >= once.visits + len(once.failed)
    assert len(repaired.kept) > len(once.kept)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(backbone: Backbone, facts: list[Fact]) -> None:
    short = SETTINGS.model_copy(update={"epochs": 3})
    (first, run), (second, again) = (joint(backbone, facts, 1e-3, short) for _ in range(2))
    assert numpy.array_equal(run.losses, again.losses) and numpy.array_equal(run.kept, again.kept)
    here, there = learned(first), learned(second)
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)
    assert not numpy.array_equal(
        run.losses, joint(backbone, facts, 1e-3, short.model_copy(update={"seed": 1}))[1].losses
    )


def test_a_check_that_finds_a_nan_stops_the_run(
    backbone: Backbone, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JointTrainer, "ask", lambda self, rows: torch.full((len(rows), 1), float("nan")))
    model = attached(backbone)
    trainer = JointTrainer(model, backbone.tokenizer, facts, SETTINGS, 0.0)
    with pytest.raises(FloatingPointError, match="nan: lower the learning rate"):
        trainer.check(Progress.start(len(facts), len(facts)))


def test_every_wording_is_a_row_of_its_fact(backbone: Backbone, facts: list[Fact]) -> None:
    run = joint(backbone, facts, 1e-3, SETTINGS.model_copy(update={"epochs": 2, "wordings": 2}))[1]
    assert run.visits == 2 * 2 * len(facts) and run.losses.shape == (2, len(facts))
    assert run.failed == [fact.id for fact in facts]


def test_phase_1_as_the_paper_says_it_moves_the_router_and_leaves_every_expert_untouched(
    backbone: Backbone, facts: list[Fact]
) -> None:
    tokenizer, model = backbone.tokenizer, attached(backbone)
    bank, tables = inner(model).bank, set(inner(model).bank.tables)
    said, before = logits(model, tokenizer, facts), learned(model)
    report = train_router(model, tokenizer, facts * 5, LANGUAGE)
    after = learned(model)
    assert not torch.equal(before["pool"], after["pool"]) and not torch.equal(before["project"], after["project"])
    assert inner(model).bank is bank and set(bank.tables) == tables and not len(bank.touched())
    assert torch.equal(logits(model, tokenizer, facts), said)
    assert torch.equal(logits(backbone.model, tokenizer, facts), said)
    assert len(report.losses) == 3 and numpy.isfinite(report.losses).all()
    assert not model.training and not any(value.requires_grad for value in inner(model).router.parameters())
    assert torch.equal(inner(model).router.whiten, torch.eye(16))


def test_phase_1_on_the_answers_depends_on_the_answers_and_repeats(backbone: Backbone, facts: list[Fact]) -> None:
    pools = []
    for answers in ("", "", " or not"):
        changed = [Fact(fact.id, fact.question, fact.answer + answers) for fact in facts * 5]
        model = attached(backbone)
        train_router(model, backbone.tokenizer, changed, LANGUAGE)
        pools.append(learned(model)["pool"])
    assert torch.equal(pools[0], pools[1]) and not torch.equal(pools[0], pools[2])


def test_an_error_in_phase_1_gives_the_bank_back(backbone: Backbone, facts: list[Fact]) -> None:
    model = attached(backbone)
    bank = inner(model).bank
    with torch.no_grad():
        inner(model).model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        learn_from_answers(model, backbone.tokenizer, facts, LANGUAGE)
    assert inner(model).bank is bank and not len(bank.touched()) and not inner(model).blocks
    assert not any(value.requires_grad for value in inner(model).router.parameters())


def test_what_cannot_be_trained_jointly_is_refused_by_name(backbone: Backbone, facts: list[Fact]) -> None:
    tokenizer, model = backbone.tokenizer, attached(backbone, temperature=None)
    with pytest.raises(ValueError, match="temperature"):
        train_jointly(model, tokenizer, facts, SETTINGS)
    with pytest.raises(ValueError, match="temperature"):
        train_router(model, tokenizer, facts, LANGUAGE)
    with pytest.raises(ValueError, match="no facts"):
        train_jointly(model, tokenizer, [], SETTINGS)
    with pytest.raises(ValueError, match="no MoME adapter"):
        train_jointly(backbone.model, tokenizer, facts, SETTINGS)
    with pytest.raises(ValueError, match=r"state_noise must be 0 here, got 0\.5"):
        train_jointly(model, tokenizer, facts, SETTINGS.model_copy(update={"state_noise": 0.5}))
