"""What a model makes of running text: loss, LAMBADA's last word, KL divergence from the backbone, and equal bits.

All come from one pass over each passage. Of the backbone only the states that enter its output layer are kept, from
which its logits are made anew: two models' logits exist for a few passages at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.lm.encoding import Encoded
from mome.lm.losses import reads_prompts
from mome.replication.damage.sets import Item
from mome.replication.scoring.likelihood import encode_pair, longest_input

ROWS = 8  # passages at a time: 8 * 100 tokens * 49,152 words * 4 bytes are 150 MiB of logits

States = dict[str, Tensor]  # of each passage by its id: [T, D], what enters the output layer at each token


@torch.no_grad()
def read_passages(
    model: Any, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Item], backbone: States | None = None
) -> tuple[pandas.DataFrame, States]:
    """Measure the model on each passage, in its own dtype; with `backbone`, the states of the untouched one, its KL.

    Memory experts are chosen by the passage without its last word.

    Returns:
        A table with the columns item, tokens (scored: all but the first), loss (mean, nats/token), last_right (the
        greedy tokens are the last word's), last_loss (nats, all its tokens), kl (KL(backbone || model), mean over the
        scored tokens, nats; NaN without `backbone`), bits and last_bits (digests of the logits of all tokens and of
        those that predict the last word: equal digests mean equal bits); and the states, on the CPU.

    Raises:
        ValueError: a passage has a single word or does not fit the model; its states in `backbone` are missing or of
            another shape; the output layer does more than to multiply states.
    """
    longest = longest_input(model)
    rows = [_encode(tokenizer, passage, longest) for passage in passages]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    found: dict[int, dict[str, Any]] = {}
    states: States = {}
    starts = range(0, len(order), ROWS)
    for start in tqdm(starts, desc="passages", unit="batch", leave=False):
        chosen = order[start : start + ROWS]
        logits, entering = _logits(model, [rows[index] for index in chosen], int(tokenizer.pad_token_id or 0))
        theirs = None if backbone is None else _remade(model, [passages[index] for index in chosen], backbone, entering)
        for place, index in enumerate(chosen):
            count, identity = len(rows[index].ids), passages[index].id
            other = None if theirs is None else theirs[place, :count]
            found[index] = {"item": identity, **_measured(rows[index], logits[place, :count], other)}
            states[identity] = entering[place, :count].cpu().clone()
    return pandas.DataFrame([found[index] for index in range(len(rows))]), states


def _encode(tokenizer: PreTrainedTokenizerBase, passage: Item, longest: int) -> Encoded:
    context, _, word = passage.text.rpartition(" ")
    if not context.strip():
        raise ValueError(f"passage {passage.id!r}: must have more than one word")
    row = encode_pair(tokenizer, context, f" {word}", longest)
    if len(row.ids) > longest:
        raise ValueError(f"passage {passage.id!r}: {len(row.ids)} tokens, the model reads {longest}")
    return row


def _logits(model: Any, rows: Sequence[Encoded], padding: int) -> tuple[Tensor, Tensor]:
    """Logits [B, T, V] of rows padded on the right, and the states [B, T, D] that enter the output layer."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), padding, dtype=torch.int64)
    mask, prompt = torch.zeros_like(ids), torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], mask[place, : len(row.ids)] = torch.tensor(row.ids), 1
        prompt[place, : len(row.ids) - row.answer_tokens] = True
    device = model.device
    routing = {"prompt_mask": prompt.to(device)} if reads_prompts(model) else {}
    with _entering(model) as entered:
        found = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False, **routing).logits
    return found, entered[-1]


@contextmanager
def _entering(model: Any) -> Iterator[list[Tensor]]:
    """What enters the model's output layer inside the block, a tensor for each pass."""
    entered: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    try:
        yield entered
    finally:
        hook.remove()


def _remade(model: Any, passages: Sequence[Item], backbone: States, entering: Tensor) -> Tensor:
    """The backbone's logits [B, T, V] of the passages: its states, padded as the model's, through the output layer."""
    padded = torch.zeros_like(entering)
    for place, passage in enumerate(passages):
        states = backbone.get(passage.id)
        if states is None or len(states) > padded.shape[1] or states.shape[1] != padded.shape[2]:
            shape = "none" if states is None else list(states.shape)
            raise ValueError(f"passage {passage.id!r}: needs the backbone's states, got {shape}")
        padded[place, : len(states)] = states.to(padded)
    made: Tensor = model.get_output_embeddings()(padded)
    return made


def _measured(row: Encoded, logits: Tensor, backbone: Tensor | None) -> dict[str, Any]:
    """The measures of one passage from its logits [T, V]."""
    log_shares = logits[:-1].float().log_softmax(dim=-1)
    targets = torch.tensor(row.ids[1:], device=logits.device)
    losses = -log_shares.gather(1, targets[:, None]).squeeze(1).double()
    last = slice(len(losses) - row.answer_tokens, None)
    return {
        "tokens": len(losses),
        "loss": float(losses.mean()),
        "last_right": bool((logits[:-1][last].argmax(dim=-1) == targets[last]).all()),
        "last_loss": float(losses[last].sum()),
        "kl": float("nan") if backbone is None else float(divergence(backbone[:-1], logits[:-1]).mean()),
        "bits": digest(logits),
        "last_bits": digest(logits[:-1][last]),
    }


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second) in nats [T] float64 of two distributions given by logits [T, V]; sums are in float64."""
    ours, theirs = first.float().log_softmax(dim=-1), second.float().log_softmax(dim=-1)
    return (ours.exp() * (ours - theirs)).sum(dim=-1, dtype=torch.float64)


def digest(values: Tensor) -> str:
    """16 digits of the SHA-256 of a tensor's bytes."""
    plain = values.detach().contiguous().cpu().view(torch.uint8)
    return hashlib.sha256(plain.numpy().data).hexdigest()[:16]


def same_bits(before: pandas.DataFrame, after: pandas.DataFrame, column: str = "bits") -> pandas.DataFrame:
    """Whether each passage's logits are what they were, to the last bit. Columns: item, same.

    Raises:
        ValueError: the tables are not of the same passages.
    """
    if not before["item"].equals(after["item"]):
        raise ValueError("tables before and after must be of the same passages")
    return pandas.DataFrame({"item": before["item"], "same": before[column] == after[column]})
