"""A loop that cannot train the experts says so at its first step; those that can are left alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_models import inner, make_backbone, make_model, questions
from transformers import Trainer, TrainingArguments
from transformers.optimization import Adafactor

from mome.train.optim import MemoryOptimizer, RowAdam

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": lambda values: torch.optim.AdamW(values, 1e-2),
    "SGD": lambda values: torch.optim.SGD(values, 1e-2, momentum=0.9),
    "Adafactor": lambda values: Adafactor(values, lr=1e-2, relative_step=False, scale_parameter=False),
}


def batch() -> dict[str, torch.Tensor]:
    ids = questions(4, 12)
    return {"input_ids": ids, "labels": torch.where(torch.arange(12) < 9, -100, ids)}


def parameters(model: Any) -> list[torch.nn.Parameter]:
    return [value for value in model.parameters() if value.requires_grad]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_step_of_an_optimizer_of_parameters_is_refused(name: str) -> None:
    model = make_model().train()
    optimizer = OPTIMIZERS[name](parameters(model))
    before = [value.detach().clone() for value in parameters(model)]
    model(**batch()).loss.backward()
    with pytest.raises(RuntimeError, match="MemoryOptimizer"):
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(parameters(model), before, strict=True))


def test_accumulated_passes_and_updates_by_hand_are_refused_at_the_second_pass() -> None:
    model = make_model().train()
    model(**batch()).loss.backward()
    with pytest.raises(RuntimeError, match="MemoryOptimizer"):
        model(**batch())


def test_trainer_and_accelerate_are_refused_at_the_first_step(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True)
    rows = [dict(zip(batch(), row, strict=True)) for row in zip(*batch().values(), strict=True)]
    trainer = Trainer(make_model(), arguments, train_dataset=rows)
    with pytest.raises(RuntimeError, match="MemoryOptimizer"):
        trainer.train()
    assert trainer.state.global_step == 0
    accelerator = Accelerator(cpu=True)
    model = make_model().train()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(parameters(model)))
    accelerator.backward(model(**batch()).loss)
    with pytest.raises(RuntimeError, match="MemoryOptimizer"):
        optimizer.step()


def test_a_loop_in_evaluation_mode_has_nothing_to_differentiate() -> None:
    model = make_model().eval()
    with pytest.raises(RuntimeError, match="does not require grad"):
        model(**batch()).loss.backward()


def test_the_router_may_be_stepped_beside_an_optimizer_of_the_rows() -> None:
    model = make_model().train()
    tuner = inner(model)
    router, rows = torch.optim.AdamW(tuner.router.parameters(), 1e-2), RowAdam(tuner.bank, 0.05)
    optimizer, before = MemoryOptimizer(model, rows), tuner.router.pool.detach().clone()
    for _ in range(2):
        for _ in range(2):
            model(**batch()).loss.backward()
        router.step()
        optimizer.step()
    assert len(tuner.bank.touched()) and not torch.equal(tuner.router.pool, before)


def test_an_optimizer_that_is_gone_trains_nothing() -> None:
    model = make_model().train()
    optimizer = MemoryOptimizer(model, RowAdam(inner(model).bank, 0.05))
    model(**batch()).loss.backward()
    optimizer.step()
    del optimizer
    model(**batch()).loss.backward()
    with pytest.raises(RuntimeError, match="MemoryOptimizer"):
        torch.optim.SGD(parameters(model), 1e-2).step()


def test_other_models_and_the_router_alone_are_stepped_as_ever() -> None:
    model, other = make_model().train(), make_backbone().requires_grad_(True)
    model(**batch()).loss.backward()
    other(**batch()).loss.backward()
    pool, head = inner(model).router.pool, other.get_output_embeddings().weight
    before = head.detach().clone()
    torch.optim.SGD(other.parameters(), 1e-2).step()
    inner(model).blocks.clear()
    torch.optim.SGD(parameters(model), 1e-2).step()
    assert pool.grad is not None and not torch.equal(head, before)
