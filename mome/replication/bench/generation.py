"""Benchmark 3, answers: `generate` with memory experts in use beside the bare backbone.

The prompt is a memorized question, so its experts are trained and add to every token. The time of an answer of one
token is that of the prefill. The time of a further token is that of an answer of 1 + n tokens less the prefill, over n.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from mome.adapter.model import mome_model
from mome.facts.fact import Fact
from mome.lm.encoding import encode_prompts
from mome.lm.loading import Backbone
from mome.lm.prompts.frame import prompt_ids
from mome.replication.bench import traffic
from mome.replication.bench.tables import BARE, MEMORY, PREFILL, TOKEN
from mome.replication.bench.timing import CheckError, Run, Timer, difference, in_rounds, require
from mome.replication.bench.whole_model import EndToEndSizes, Make, peak_gib, with_experts
from mome.train.experts import memorize_facts
from mome.train.settings import MemorySettings

CHECKED_TOKENS = 4
# of the logits of tokens generated one by one, to those of the whole text at once
BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 0.05}


def generation_rows(timer: Timer, make: Make, facts: Sequence[Fact], sizes: EndToEndSizes) -> list[dict[str, Any]]:
    """Rows of a table: stage "prefill" or "token" (one further token), contender, prompt_tokens, over_bare, peak_gib.

    `over_bare` is the median of the ratios within rounds. Two copies of the backbone are made.

    Raises:
        CheckError: the experts add nothing, or the tokens generated one by one are not those of the whole text.
    """
    gc.collect()  # models hang in cycles; two more must fit on the device
    bare, taught = make(), make()
    asked = long_fact(bare, facts, sizes.prompt_tokens)
    model = with_experts(taught, [asked, *facts], sizes.experts)
    memorize_facts(model, taught.tokenizer, [asked], MemorySettings(epochs=2, repairs=0))
    ids, mask, _ = encode_prompts(bare.tokenizer, [asked.question])
    prompt = {"input_ids": ids.to(timer.device), "attention_mask": mask.to(timer.device)}
    models = {BARE: bare.model, MEMORY: model}
    _check(models, prompt)
    answers = {
        (name, count): _answer(timer.device, one, prompt, count)
        for name, one in models.items()
        for count in (1, 1 + sizes.new_tokens)
    }
    peaks = {name: peak_gib(timer.device, one, answers[name, 1 + sizes.new_tokens]) for name, one in models.items()}
    taken = in_rounds(list(answers.values()), sizes.rounds, float("inf"))
    times = {key: numpy.array(values) for key, values in zip(answers, taken, strict=True)}
    return [
        row
        for stage in (PREFILL, TOKEN)
        for row in _rows(timer, stage, times, _moved(bare, model, prompt), sizes, prompt, peaks)
    ]


def _rows(
    timer: Timer,
    stage: str,
    times: dict[tuple[str, int], numpy.ndarray],
    moved: dict[str, int],
    sizes: EndToEndSizes,
    prompt: Any,
    peaks: dict[str, float | None],
) -> list[dict[str, Any]]:
    whole = 1 + sizes.new_tokens
    rows, bare = [], numpy.empty(0)
    for name in (BARE, MEMORY):
        first = times[name, 1]
        seconds = first if stage == PREFILL else (times[name, whole] - first) / sizes.new_tokens
        bare = seconds if name == BARE else bare
        labels = {"stage": stage, "contender": name, "experts": sizes.experts if name == MEMORY else 0}
        labels |= {"prompt_tokens": prompt["input_ids"].shape[1], "new_tokens": 1 if stage == PREFILL else whole}
        row = timer.row(labels, moved[name], seconds)
        rows.append(row | {"over_bare": float(numpy.median(seconds / bare)), "peak_gib": peaks[name]})
    return rows


def long_fact(backbone: Backbone, facts: Sequence[Fact], tokens: int) -> Fact:
    """A fact whose question strings together those of `facts`, until its prompt has `tokens` tokens or they run out."""
    questions: list[str] = []
    for fact in facts:
        questions.append(fact.question)
        if len(prompt_ids(backbone.tokenizer, [" ".join(questions)])[0]) >= tokens:
            break
    return Fact("long", " ".join(questions), facts[0].answer)


def _answer(device: torch.device, model: Any, prompt: Any, count: int) -> Run:
    """An answer of exactly `count` tokens, done when the device is done."""

    def run() -> None:
        _generate(model, prompt, count)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def _generate(model: Any, prompt: Any, count: int, **options: Any) -> Any:
    length = {"min_new_tokens": count, "max_new_tokens": count}
    return model.generate(**prompt, **length, do_sample=False, pad_token_id=0, **options)


@torch.no_grad()
def _check(models: dict[str, Any], prompt: Any) -> None:
    """Tokens one by one, from the cache and the experts kept with it, against one pass over the whole text."""
    found: dict[str, Tensor] = {}
    for name, model in models.items():
        out = _generate(model, prompt, CHECKED_TOKENS, output_logits=True, return_dict_in_generate=True)
        found[name] = torch.stack(out.logits, dim=1).float()
        whole = _whole_text(model, out.sequences[:, :-1])[:, -CHECKED_TOKENS:].float()
        bound = BOUNDS[models[BARE].dtype]
        require(difference(found[name], whole), bound, f"{name}: logits of the tokens generated one by one")
    if not difference(found[MEMORY], found[BARE]) > 0:
        raise CheckError(f"{MEMORY}: they change nothing about the answer; nothing was written")


def _whole_text(model: Any, ids: Tensor) -> Tensor:
    mome = mome_model(model)
    if mome is None:
        return model(input_ids=ids, use_cache=False).logits
    with mome.using(mome.selection):
        return model(input_ids=ids, use_cache=False).logits


def _moved(bare: Backbone, model: Any, prompt: Any) -> dict[str, int]:
    """All weights once and the keys and values of the prompt, and with experts their rows in f32."""
    mome = mome_model(model)
    assert mome is not None
    tokens = prompt["input_ids"].shape[1]
    item = next(bare.model.parameters()).element_size()
    moved = traffic.weights(bare.model) + traffic.cached_states(bare.model.config, tokens, item)
    rows = mome.settings.top_k * sum(mome.bank.width(module) for module in mome.bank.shapes) * traffic.F32
    return {BARE: moved, MEMORY: moved + rows}
