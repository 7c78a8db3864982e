"""Checks of `generate` and of KV caches: each question's experts are chosen once, from its whole prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from mome.adapter.selection import Selection

REFUSED = (
    "prefill_chunk_size",
    "assistant_model",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "speculation_type",
    "use_mtp",
)
CACHES = (None, "dynamic", "dynamic_full", "offloaded", "quantized")  # with others, padding cannot be told from tokens
PROMPTS = ("inputs_embeds", "input_ids", "inputs")
REMEDY = "pass the whole prompt without past_key_values"


def refuse_modes(options: Mapping[str, Any]) -> None:
    """Check arguments of `generate`, or the values of a generation config.

    Raises:
        ValueError: a mode that reads the prompt in pieces or drafts tokens elsewhere; the message names it.
    """
    for name in REFUSED:
        if options.get(name):
            raise ValueError(f"generate: {name} is not supported by MoME: experts are chosen from the whole prompt")
    cache = options.get("cache_implementation")
    if cache not in CACHES:
        raise ValueError(f"generate: cache_implementation={cache!r} is not supported by MoME: use one of {CACHES[1:]}")


def read_again(arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Empty the KV cache among the arguments of `generate`, so that the whole prompt is read, by its own experts.

    A cache that holds the start of the prompt was computed with the experts chosen by that start alone.

    Args:
        arguments: those of `generate` without a name, the first of them the prompts [Q, T].
        options: its named arguments, perhaps with the prompts [Q, T] or their embeddings [Q, T, D].

    Raises:
        ValueError: the cache cannot be emptied, or the tokens given are not the whole prompt; the message says so.
    """
    cache = options.get("past_key_values")
    if cache is None:
        return
    if getattr(cache, "is_compileable", False):
        raise ValueError(f"generate: past_key_values: {type(cache).__name__} is not supported by MoME: {REMEDY}")
    cached = int(cache.get_seq_length())
    if not cached:
        return
    mask = options.get("attention_mask")
    named = [options[name] for name in PROMPTS if options.get(name) is not None]
    tokens = next(iter([*named, *arguments[:1]]), None)
    given = 0 if tokens is None else tokens.shape[1]
    if given <= cached or (mask is not None and mask.shape[1] != given):
        raise ValueError(
            f"generate: past_key_values holds {cached} tokens and {given} are given, which are not the whole prompt: "
            f"MoME chooses experts by all of it; {REMEDY}"
        )
    cache.reset()
    if int(cache.get_seq_length()):
        raise ValueError(f"generate: past_key_values: a {type(cache).__name__} cannot be emptied; {REMEDY}")


@dataclass(slots=True)
class Reading:
    """What this model put into a KV cache: `tokens` in all, the first of them the `prompt`, with these experts."""

    selection: Selection
    prompt: int
    tokens: int


class Readings:
    """The KV caches that this model has filled, as long as they live. A copied or pickled one is empty."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[Any, Reading] = WeakKeyDictionary()

    def go_on(self, cache: Any, rows: int, tokens: int) -> Selection:
        """The experts with which decoding goes on: `rows` questions get `tokens` tokens more.

        Raises:
            RuntimeError: these are not the next token of questions whose prompts this model has read into the cache.
        """
        reading, cached = self._found.get(cache), int(cache.get_seq_length())
        if reading is None:
            problem = "was not filled by a prompt this model has read"
        elif not reading.prompt <= cached <= reading.tokens:
            problem = f"holds {cached} tokens, this model read a prompt of {reading.prompt} and {reading.tokens} in all"
        elif len(reading.selection.routes.ids) != rows:
            problem = f"is of {len(reading.selection.routes.ids)} questions, and {rows} are given"
        elif tokens > 1:
            problem = f"would be followed by {tokens} tokens, a part of a prompt whose experts were chosen without it"
        else:
            return reading.selection
        raise RuntimeError(f"past_key_values: this cache {problem}; {REMEDY}, or hold experts with `using`")

    def note(self, cache: Any, selection: Selection, before: int) -> None:
        """A pass with these experts has added to a cache that held `before` tokens."""
        old, tokens = self._found.get(cache), int(cache.get_seq_length())
        self._found[cache] = Reading(selection, old.prompt if before and old else tokens, tokens)

    def __reduce__(self) -> tuple[type[Readings], tuple[()]]:
        return Readings, ()
