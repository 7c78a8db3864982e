"""Whole models: tuning that learns and answers that experts change are timed, everything else is refused."""

from collections.abc import Callable

import numpy
import pandas
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mome.lm.encoding import encode_question
from mome.lm.loading import Backbone
from mome.lm.prompts.form import QUESTION_ANSWER as PROMPT
from mome.replication.bench import end_to_end, generation, traffic, whole_model
from mome.replication.bench.end_to_end import tuning_rows
from mome.replication.bench.generation import generation_rows, long_fact
from mome.replication.bench.tables import BARE, LORA, MEMORY, PREFILL, TOKEN, TUNING
from mome.replication.bench.timing import CheckError, Timer
from mome.replication.bench.whole_model import EndToEndSizes, llama_8b, peak_gib
from mome.train.tuning import TuningRun

CPU = torch.device("cpu")
SIZES = EndToEndSizes(experts=256, batch_size=4, epochs=3, runs=2, prompt_tokens=30, new_tokens=3, rounds=3)


@pytest.fixture
def timer() -> Timer:
    return Timer(CPU, rounds=3, seconds=0.0, copied=2**16)


@pytest.fixture
def make(random_backbone) -> Callable[[], Backbone]:
    """Makes random models of two layers, with the tokenizer of the tiny random backbone."""
    tokenizer = random_backbone.tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return lambda: whole_model.random_backbone(config, tokenizer, CPU)


def test_tuning_counts_tokens_steps_and_bytes(timer, make, facts, monkeypatch):
    seconds = iter([0.6, 0.6])
    monkeypatch.setattr(end_to_end, "tune", lambda *_: TuningRun(numpy.array([[2.0], [1.0]]), next(seconds, 0.3)))
    table = pandas.DataFrame(tuning_rows(timer, make, facts, SIZES))
    ways = [("adam", MEMORY, 256), ("adafactor", MEMORY, 256), ("adafactor", LORA, 0)]
    assert list(zip(table["optimizer"], table["contender"], table["experts"], strict=True)) == ways
    assert set(table["stage"]) == {TUNING} and set(table["n"]) == {2} and table["peak_gib"].isna().all()
    backbone, lora = make(), table.iloc[2]
    tokens = sum(len(encode_question(backbone.tokenizer, fact.question, fact.answer).ids) for fact in facts)
    # the first run warms up; the two that count took 0.6 and 0.3 s for 3 epochs of 2 steps
    assert lora["median_us"] == pytest.approx(1e6 * 0.45 / 6) and lora["over_lora"] == 1
    assert lora["tokens_per_second"] == pytest.approx(3 * tokens / 0.45)
    # gate_proj of the upper layer; 4 facts choose 32 experts each
    assert table["bytes"].tolist() == [
        traffic.tuning_step(backbone.model, 1, True, 4 * 32 * 80, "adam"),
        traffic.tuning_step(backbone.model, 1, True, 4 * 32 * 80, "adafactor"),
        traffic.tuning_step(backbone.model, 1, False, 32 * 80, "adafactor"),
    ]


def test_tuning_that_does_not_learn_is_refused(timer, make, facts, monkeypatch):
    monkeypatch.setattr(end_to_end, "tune", lambda *_: TuningRun(numpy.array([[1.0], [1.0]]), 0.1))
    with pytest.raises(CheckError, match=r"PEFT LoRA r=32, adafactor: 2 epochs took the loss from 1\.0000 to 1\.0000"):
        tuning_rows(timer, make, facts, SIZES)
    monkeypatch.setattr(end_to_end, "memorize_facts", lambda *_: TuningRun(numpy.array([[1.0], [2.0]]), 0.1))
    with pytest.raises(CheckError, match="memory experts, adam: 2 epochs"):
        tuning_rows(timer, make, facts, SIZES)


def test_answers_are_timed_with_experts_and_without(timer, make, facts):
    table = pandas.DataFrame(generation_rows(timer, make, facts, SIZES)).set_index(["stage", "contender"])
    assert list(table.index) == [(stage, name) for stage in (PREFILL, TOKEN) for name in (BARE, MEMORY)]
    assert (table.loc[PREFILL, "median_us"] > 0).all() and set(table["n"]) == {3}
    assert (table.xs(BARE, level=1)["over_bare"] == 1).all() and (table["prompt_tokens"] >= 30).all()
    assert table.loc[(TOKEN, MEMORY), "experts"] == 256 and table.loc[(TOKEN, BARE), "new_tokens"] == 4
    # 32 rows of 80 numbers in f32
    assert (table.xs(MEMORY, level=1)["bytes"] - table.xs(BARE, level=1)["bytes"]).tolist() == [32 * 80 * 4] * 2


def test_a_token_is_the_longer_answer_less_the_prefill(timer, make, facts, monkeypatch):
    # bare 1 and 1 + 3 tokens, then with experts
    taken = [[0.10, 0.10, 0.30], [0.40, 0.70, 0.60], [0.20, 0.10, 0.30], [0.56, 0.70, 0.90]]
    monkeypatch.setattr(generation, "in_rounds", lambda *_: taken)
    table = pandas.DataFrame(generation_rows(timer, make, facts, SIZES)).set_index(["stage", "contender"])
    assert table.loc[(TOKEN, BARE), "median_us"] == pytest.approx(1e5)
    assert table.loc[(TOKEN, MEMORY), "median_us"] == pytest.approx(2e5)
    # within rounds: 0.12 / 0.1, 0.2 / 0.2, 0.2 / 0.1
    assert table.loc[(TOKEN, MEMORY), "over_bare"] == pytest.approx(1.2)
    assert table.loc[(PREFILL, MEMORY), "over_bare"] == pytest.approx(1.0)


def test_experts_that_change_nothing_are_refused(timer, make, facts, monkeypatch):
    monkeypatch.setattr(generation, "memorize_facts", lambda *_: None)
    with pytest.raises(CheckError, match="memory experts: they change nothing about the answer; nothing was written"):
        generation_rows(timer, make, facts, SIZES)


def test_tokens_that_are_not_those_of_the_whole_text_are_refused(timer, make, facts, monkeypatch):
    whole = generation._whole_text
    monkeypatch.setattr(generation, "_whole_text", lambda model, ids: whole(model, ids) * 1.01)
    with pytest.raises(CheckError, match=r"bare backbone: logits of the tokens generated one by one: off by 0\.00"):
        generation_rows(timer, make, facts, SIZES)


def test_a_long_question_has_the_tokens_asked_for_if_there_are_enough(random_backbone, facts):
    def tokens(fact) -> int:
        return len(random_backbone.tokenizer(PROMPT.format(question=fact.question))["input_ids"])

    asked, shorter = long_fact(random_backbone, facts, 60), long_fact(random_backbone, facts, 1)
    assert 60 <= tokens(asked) < 60 + tokens(facts[0]) + 10 and shorter.question == facts[0].question
    assert long_fact(random_backbone, facts, 10**6).question == " ".join(fact.question for fact in facts)


def test_a_random_backbone_is_frozen_and_repeats_by_its_seed(make):
    one, other = make(), make()
    assert all(not weight.requires_grad for weight in one.model.parameters()) and not one.model.training
    weights = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in weights) and one.model.dtype == torch.float32


def test_the_large_model_has_the_shape_of_llama_3_8b():
    with torch.device("meta"):
        model = LlamaForCausalLM(llama_8b())
    assert sum(weight.numel() for weight in model.parameters()) == 8_030_261_248


def test_on_a_cpu_no_peak_is_measured():
    ran = []
    assert peak_gib(CPU, torch.nn.Linear(2, 2), lambda: ran.append(1)) is None and ran == [1]
