"""MemoryOptimizer: the bank trained by plain loops and by HF's Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_models import inner, make_backbone, make_model, questions
from transformers import Trainer, TrainingArguments

from mome.train.optim import MemoryOptimizer, RowAdafactor, RowAdam

pytestmark = pytest.mark.usefixtures("one_thread")


def facts() -> list[dict[str, torch.Tensor]]:
    """Four questions with answers; the prompt's labels are -100."""
    rows = []
    for question, answer in zip(questions(4), questions(4, 3, seed=2), strict=True):
        tokens = torch.cat([question, answer])
        rows.append({"input_ids": tokens, "labels": torch.where(torch.arange(12) < 9, -100, tokens)})
    return rows


def whole() -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in facts()]) for name in ("input_ids", "labels")}


def train(model: Any, folder: Path, steps: int, resume: str | None = None, **options: Any) -> tuple[Trainer, Any]:
    optimizer = MemoryOptimizer(model, RowAdam(inner(model).bank, 0.05))
    settings = {
        "per_device_train_batch_size": 2,
        "max_steps": steps,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 1,
        **options,
    }
    arguments = TrainingArguments(output_dir=str(folder), **settings)
    trainer = Trainer(model, arguments, train_dataset=facts(), optimizers=(optimizer, None))
    trainer.train(resume_from_checkpoint=resume)
    return trainer, optimizer


def bank_rows(model: Any) -> dict[str, torch.Tensor]:
    return inner(model).bank.members()


def test_trainer_memorizes_and_touches_only_the_rows_in_use(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        before = model(**whole()).loss
        used = inner(model).selection.routes.ids.unique()
    trainer, _ = train(model, tmp_path, steps=24)
    model.eval()
    with torch.no_grad():
        assert model(**whole()).loss < before / 3
    assert torch.equal(inner(model).bank.touched(), used)
    assert not inner(model).blocks
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] / 3


def test_trainer_with_accumulated_gradients_equals_larger_batches(tmp_path: Path) -> None:
    rows = []
    for batch_size, accumulated in ((4, 1), (2, 2), (1, 4)):
        model = make_model()
        train(
            model,
            tmp_path,
            steps=2,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulated,
        )
        rows.append(bank_rows(model))
    for other in rows[1:]:
        assert torch.equal(other["ids"], rows[0]["ids"])
        for name in inner(model).bank.shapes:
            torch.testing.assert_close(other[f"rows/{name}"], rows[0][f"rows/{name}"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loaded", [True, False], ids=["a loaded model", "a fresh model"])
def test_trainer_goes_on_from_a_checkpoint_to_the_same_bits(loaded: bool, tmp_path: Path) -> None:
    """The bank and the averages of its optimizer come with the checkpoint, whatever the model held before."""
    options = {"steps": 6, "lr_scheduler_type": "linear", "seed": 3, "save_strategy": "steps", "save_steps": 4}
    straight = make_model()
    train(straight, tmp_path, **options)
    checkpoint = tmp_path / "checkpoint-4"
    model = PeftModel.from_pretrained(make_backbone(), checkpoint, is_trainable=True) if loaded else make_model()
    train(model, tmp_path, resume=str(checkpoint), **options)
    expected, found = bank_rows(straight), bank_rows(model)
    assert expected["steps"].max() >= 3
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_plain_loop_adds_up_passes_and_trains_the_router_along() -> None:
    model, batch = make_model(), whole()
    tuner = inner(model)
    router = torch.optim.SGD([*tuner.router.parameters()], 0.1)
    optimizer = MemoryOptimizer(model, RowAdafactor(tuner.bank, 0.05), router)
    before = tuner.router.pool.detach().clone()
    model.train()
    for _ in range(2):  # b is zero in the first step, and with it the gradients of the weights
        for part in range(2):
            rows = slice(2 * part, 2 * part + 2)
            model(**{name: values[rows] for name, values in batch.items()}).loss.backward()
        assert len(tuner.blocks) == 2
        optimizer.step()
        optimizer.zero_grad()
    assert int(tuner.bank.steps.max()) == 2
    assert not torch.equal(tuner.router.pool, before)
    assert tuner.router.pool.grad is None


def test_the_gradients_of_a_row_in_several_passes_are_summed_once() -> None:
    """Two passes over one question and one pass with twice the loss take the same step."""
    rows = []
    for repeated in (True, False):
        model, batch = make_model().train(), {name: values[:1] for name, values in whole().items()}
        optimizer = MemoryOptimizer(model, RowAdam(inner(model).bank, 0.05, epsilon=1.0))
        for _ in range(2 if repeated else 1):
            loss = model(**batch).loss
            (loss if repeated else 2 * loss).backward()
        optimizer.step()
        assert set(inner(model).bank.steps.unique().tolist()) == {0, 1}
        rows.append(bank_rows(model))
    assert all(torch.equal(rows[0][name], rows[1][name]) for name in rows[0])


def test_the_learning_rate_of_the_group_and_its_schedule_hold() -> None:
    model = make_model().train()
    optimizer = MemoryOptimizer(model, RowAdam(inner(model).bank, 0.05))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step == 0 else 1.0)
    fresh = make_model()
    for changed in (False, True):
        model(**whole()).loss.backward()
        optimizer.step()
        ids = inner(model).bank.touched()
        now, start = inner(model).bank.read(ids), inner(fresh).bank.read(ids)
        assert all(torch.equal(now[name], start[name]) != changed for name in now)
        schedule.step()


def test_passes_without_a_backward_and_rows_without_a_gradient_are_left_alone() -> None:
    model, batch = make_model().train(), whole()
    optimizer = MemoryOptimizer(model, RowAdam(inner(model).bank, 0.05))
    model(**batch)
    optimizer.step()
    logits = model(input_ids=batch["input_ids"], prompt_mask=torch.arange(12).expand(4, -1) < 9).logits
    logits[0].square().sum().backward()  # the other questions' experts took no part
    used = inner(model).selection.routes.ids[0].sort().values
    optimizer.step()
    assert torch.equal(inner(model).bank.touched(), used)


def test_its_state_comes_back() -> None:
    def make() -> tuple[Any, MemoryOptimizer]:
        model = make_model().train()
        tuner = inner(model)
        router = torch.optim.Adam(tuner.router.parameters(), 1e-3)
        return model, MemoryOptimizer(model, RowAdafactor(tuner.bank, 0.05), router)

    model, optimizer = make()
    for _ in range(2):
        model(**whole()).loss.backward()
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.01
    _, other = make()
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == 0.01
    assert other.param_groups[1] is other.router.param_groups[0]
    saved, found = optimizer.rows.state(), other.rows.state()
    assert all(torch.equal(found[name], value) for name, value in saved.items())
    with pytest.raises(ValueError, match="router"):
        MemoryOptimizer(model, optimizer.rows).load_state_dict(optimizer.state_dict())


def test_other_models_and_other_banks_are_refused() -> None:
    rows = RowAdam(inner(make_model()).bank, 0.05)
    with pytest.raises(ValueError, match="LlamaForCausalLM has no MoME adapter"):
        MemoryOptimizer(make_backbone(), rows)
    with pytest.raises(ValueError, match="another model's bank"):
        MemoryOptimizer(make_model(), rows)
