"""Which modes of `generate` keep to one choice of experts for a question, made from its whole prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REFUSED = (
    *("prefill_chunk_size", "assistant_model", "prompt_lookup_num_tokens"),
    *("assistant_early_exit", "speculation_type", "use_mtp"),
)
CACHES = (None, "dynamic", "dynamic_full", "offloaded", "quantized")  # the others hide which tokens are padding


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
