"""Pretraining of the shipped backbones: tokenizer, model, training loop with snapshots, and the folder they ship in."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm.auto import tqdm
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from mome.files.snapshots import load_snapshot, optimizer_snapshot, restore_optimizer, save_snapshot
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import Batch, Encoded, collate, encode
from mome.lm.losses import token_losses
from mome.replication.pretraining.corpus import Example, fixed_examples, string_examples
from mome.replication.pretraining.settings import PretrainingSettings

BEGIN, END, PADDING = "<s>", "</s>", "<pad>"
# A capital that opens a word stays with it; every other capital, and every digit, is a token of its own.
WORDS = r"[0-9]|[A-Z](?![a-z])| ?[A-Za-z]?[a-z]+|\s|[^\sA-Za-z0-9]+"

Probe = Callable[[PreTrainedModel, PreTrainedTokenizerBase], dict[str, float]]


@dataclass
class PretrainingProgress:
    """The progress of a pretraining run: finished epochs, one row of measurements for each, seconds spent."""

    epochs: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which each digit, and each capital outside a word, is one token."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PADDING, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PADDING, padding_side="left"
    )


def build_model(settings: PretrainingSettings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A freshly initialized Llama or Mistral of the settings' shape, seeded, tied embeddings."""
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.key_value_heads,
        "intermediate_size": settings.intermediate,
        "max_position_embeddings": settings.context,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(settings.seed)
    shape["attn_implementation"] = "eager"  # 1.25x the tokens/s of sdpa on one CPU core at 25 tokens a row
    if settings.architecture == "mistral":
        return MistralForCausalLM(MistralConfig(**shape, sliding_window=settings.sliding_window))
    return LlamaForCausalLM(LlamaConfig(**shape))


def pretrain(
    settings: PretrainingSettings, public: Path, output: Path, snapshots: Path, probe: Probe
) -> PretrainingProgress:
    """Train a backbone and write it to `output`; a run that was interrupted goes on from `snapshots`.

    Args:
        settings: the recipe.
        public: folder of the public data sets.
        output: folder of the finished backbone: bf16 safetensors, tokenizer, recipe.json, loss.csv.
        snapshots: file that keeps the state after each epoch; a finished run is taken from it.
        probe: measured on the model after every second epoch; its numbers become columns of loss.csv.

    Raises:
        FileNotFoundError: a public data set is missing.
        CheckpointError: the snapshot is damaged or belongs to other settings.
    """
    keep_freed_memory()
    examples = fixed_examples(settings.corpus, public)
    tokenizer = train_tokenizer([f"{example.prompt} {example.answer}" for example in examples], settings.vocabulary)
    model = build_model(settings, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay, betas=(0.9, 0.95))
    progress = _restore(snapshots, settings, model, optimizer)
    encoded = [encode(tokenizer, example.prompt, example.answer) for example in examples]
    for epoch in range(progress.epochs, settings.epochs):
        started = time.perf_counter()
        row = _train_epoch(settings, epoch, model, tokenizer, optimizer, encoded)
        if epoch % 2 == 1:
            row |= probe(model.eval(), tokenizer)
        progress.rows.append(row)
        progress.epochs, progress.seconds = epoch + 1, progress.seconds + time.perf_counter() - started
        _snapshot(snapshots, settings, model, optimizer, progress)
    _ship(settings, output, model, tokenizer, progress, examples)
    return progress


def _train_epoch(
    settings: PretrainingSettings,
    epoch: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
    encoded: list[Encoded],
) -> dict[str, float]:
    model.train()
    strings = string_examples(settings.corpus.strings, settings.seed, epoch)
    rows = encoded + [encode(tokenizer, example.prompt, example.answer) for example in strings]
    groups = _groups(rows, settings.batch_size, seed=[settings.seed, epoch])
    tokens, answer_loss, started = 0, 0.0, time.perf_counter()
    bar = tqdm(groups, desc=f"{settings.name} epoch {epoch + 1}/{settings.epochs}", unit="batch", leave=False)
    for step, group in enumerate(bar):
        batch = collate(group, tokenizer.pad_token_id)
        _set_rate(optimizer, settings, (epoch + step / len(groups)) / settings.epochs)
        answer, text = _losses(model, batch)
        (answer + settings.text_weight * text).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens, answer_loss = tokens + int(batch.mask.sum()), answer_loss + answer.item()
        speed = tokens / (time.perf_counter() - started)
        bar.set_postfix(answer_loss=f"{answer_loss / (step + 1):.4f}", tokens_per_second=f"{speed:.0f}")
    return {"epoch": epoch + 1, "answer_loss": answer_loss / len(groups), "tokens_per_second": speed, "tokens": tokens}


def _losses(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss in nats of the answer tokens, and of all tokens."""
    columns = batch.ids.shape[1] - 1
    losses, mask = token_losses(model, batch, columns), batch.mask[:, :-1] * batch.mask[:, 1:]
    answers = losses[:, columns - batch.answer_tokens :][batch.answer_mask]
    return answers.mean(), (losses * mask).sum() / mask.sum()


def _groups(rows: list[Encoded], size: int, seed: list[int]) -> list[list[Encoded]]:
    """Shuffled batches of rows of similar length, so that little is padding."""
    generator = numpy.random.default_rng(seed)
    order = generator.permutation(len(rows))
    lengths = numpy.array([len(rows[index].ids) for index in order])
    order = order[numpy.argsort(lengths + generator.uniform(0, 4, len(rows)), kind="stable")]
    groups = [[rows[index] for index in order[start : start + size]] for start in range(0, len(order), size)]
    return [groups[index] for index in generator.permutation(len(groups))]


def _set_rate(optimizer: torch.optim.Optimizer, settings: PretrainingSettings, done: float) -> None:
    """One cycle: linear warm-up, then half a cosine to zero."""
    warm = done / settings.warmup if settings.warmup else 1.0
    cool = (1 + math.cos(math.pi * (done - settings.warmup) / (1 - settings.warmup))) / 2
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * (warm if warm < 1 else cool)


def _snapshot(
    path: Path,
    settings: PretrainingSettings,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    progress: PretrainingProgress,
) -> None:
    tensors, numbers = optimizer_snapshot(optimizer)
    tensors |= {f"model/{name}": value for name, value in model.named_parameters()}
    state = {"config": settings.model_dump(mode="json"), "optimizer": numbers, "progress": vars(progress)}
    save_snapshot(path, tensors, state)


def _restore(
    path: Path, settings: PretrainingSettings, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> PretrainingProgress:
    found = load_snapshot(path, settings.model_dump(mode="json"))
    if found is None:
        return PretrainingProgress()
    tensors, state = found
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
    restore_optimizer(optimizer, tensors, state["optimizer"])
    return PretrainingProgress(**state["progress"])


def _ship(
    settings: PretrainingSettings,
    output: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    progress: PretrainingProgress,
    examples: list[Example],
) -> None:
    """Write the backbone as bf16: products are taken in bf16 anyway, and the file halves."""
    model.bfloat16().save_pretrained(output)
    tokenizer.save_pretrained(output)
    sources = sorted({example.source for example in examples})
    recipe = {
        "settings": settings.model_dump(mode="json"),
        "examples": {source: sum(example.source == source for example in examples) for source in sources},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": int(sum(row["tokens"] for row in progress.rows)),
        "seconds": round(progress.seconds),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    (output / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    with (output / "loss.csv").open("w", encoding="utf-8", newline="") as file:
        columns = list(dict.fromkeys(name for row in progress.rows for name in row))
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(progress.rows)
