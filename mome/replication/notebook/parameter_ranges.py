"""Allowed values of the notebooks' parameters: a bound for each name, and bounds of a single notebook."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mome.files.environment import repository_root
from mome.lm.backbones.kept import place_of
from mome.lm.backbones.named import NAMED


@dataclass(frozen=True)
class Range:
    """From `low` (`above`: without it) to `high`: a number, or one of `LIMITS`. `fits` narrows it, as `words` say."""

    low: float
    high: float | str
    above: bool = False
    fits: Callable[[Any], bool] | None = None
    words: str = ""

    def complaint(self, value: Any, values: Mapping[str, Any]) -> str:
        """What is allowed, where `value` is not; else nothing. `values` are all parameters of the notebook."""
        if isinstance(value, (bool, str)):  # a notebook that means something else by the name
            return ""
        high, meaning = self.high, ""
        if isinstance(high, str):
            limit, meaning = LIMITS[high]
            high = limit(values)
        inside = (self.low < value if self.above else self.low <= value) and value <= high
        if inside and (self.fits is None or self.fits(value)):
            return ""
        return self._text(high, meaning)

    def _text(self, high: float, meaning: str) -> str:
        words = f", {self.words}" if self.words else ""
        if not math.isfinite(high):  # what is not known here (the layers of a backbone on the Hub) is not bounded
            return f"{'above' if self.above else 'at least'} {self.low:,}{words}"
        ends = f"above {self.low:,}, at most {high:,}" if self.above else f"from {self.low:,} to {high:,}"
        return f"{ends} ({meaning}){words}" if meaning else ends + words


@dataclass(frozen=True)
class OneOf:
    """One of these names; with `shipped`, only where all backbones are shipped ones: others may have other modules."""

    names: tuple[str, ...]
    shipped: bool = False

    def complaint(self, value: Any, values: Mapping[str, Any]) -> str:
        """What is allowed, where `value` is not; else nothing."""
        if self.shipped and not set(values["backbones"]) <= set(shipped_backbones()):
            return ""
        return "" if value in self.names else f"one of {', '.join(self.names)}"


class Backbone:
    """A shipped or named backbone, a folder or GGUF file that holds one, or a name on the Hub, which is not asked."""

    def complaint(self, value: Any, values: Mapping[str, Any]) -> str:
        """What is allowed, where `value` is not; else nothing."""
        shipped, path = shipped_backbones(), Path(value)
        if not shipped or value in {*shipped, *NAMED} or (path / "config.json").is_file():
            return ""
        if (path.suffix == ".gguf" and path.is_file()) or (path.is_dir() and any(path.glob("*.gguf"))):
            return ""
        if re.fullmatch(r"[\w.-]+/[\w.-]+", value) and not path.exists():
            return ""
        names = ", ".join([*shipped, *NAMED])
        return f"a name ({names}), a folder with a config.json, a GGUF file, or owner/name on the Hub"


def shipped_backbones() -> list[str]:
    """Names of the backbones in data/backbones."""
    return sorted(path.parent.name for path in (repository_root() / "data" / "backbones").glob("*/config.json"))


def _near_square(number: int) -> bool:
    """As `MomeConfig` wants it: a factor between a quarter of the square root and the root itself."""
    root = math.isqrt(number)
    return any(number % factor == 0 for factor in range(root, 0, -1) if 16 * factor**2 >= number)


def _count_of(*names: str) -> Callable[[Mapping[str, Any]], float]:
    def count(values: Mapping[str, Any]) -> float:
        paths = [repository_root() / "data" / f"{name}.jsonl" for name in names]
        if not all(path.is_file() for path in paths):
            return math.inf
        return sum(text.count(b"\n") for text in (path.read_bytes() for path in paths))

    return count


def _smallest_set(values: Mapping[str, Any]) -> float:
    sizes = {"shipped": _count_of("facts/unknown")(values), "truthfulqa": 817, "mmlu": 14_042}
    return min(sizes.get(name, math.inf) for name in values.get("datasets", ["shipped"]))


def _layers(values: Mapping[str, Any]) -> float:
    folder = repository_root() / "data" / "backbones"
    places = [place for name in values["backbones"] for place in (folder / name, Path(name))]
    places += [place_of(NAMED[name].sha256) for name in values["backbones"] if name in NAMED]
    paths = [place for place in places if place.is_dir()]
    configs = [json.loads(path.read_text("utf-8")) for each in paths if (path := each / "config.json").is_file()]
    return min((config.get("num_hidden_layers", math.inf) for config in configs), default=math.inf)


LIMITS: dict[str, tuple[Callable[[Mapping[str, Any]], float], str]] = {
    "unknown": (_smallest_set, "the facts that are shipped, or of the smallest of the datasets"),
    "half unknown": (lambda values: _count_of("facts/unknown")(values) // 2, "half of the shipped unknown facts"),
    "known": (_count_of("facts/known"), "the shipped known facts"),
    "all": (_count_of("facts/known", "facts/unknown"), "the shipped facts"),
    "half": (lambda values: _count_of("facts/known", "facts/unknown")(values) // 2, "half of the shipped facts"),
    "pairs": (_count_of("text_to_sql/pairs"), "the shipped questions with their SQL"),
    "layers": (_layers, "the layers of the backbone"),
    "last layer": (lambda values: _layers(values) - 1, "the last layer of the backbone"),
    "num_experts": (lambda values: values.get("num_experts", math.inf), "num_experts"),
}

SEED, COUNT, SHARE = Range(0, 2**32 - 1), Range(1, 1_000_000), Range(0, 1)
FACTS, KNOWN, EPOCHS, STEPS = Range(1, "unknown"), Range(1, "known"), Range(1, 100_000), Range(0, 100_000)
RATE, LOSS, NO_LOSS, LARGE = Range(0, 1, above=True), Range(0, 100, above=True), Range(0, 100), Range(1, 1e20)
RANK, EPOCH, SMALL, FEW = Range(1, 65_536), Range(1, 100_000), Range(1, 1_000), Range(2, 1_000)
EXPERTS = Range(32, 2**30, fits=_near_square, words="a product of two numbers of similar size")
ANY_EXPERTS = Range(1, 2**30, fits=_near_square, words=EXPERTS.words)

Bound = Range | OneOf | Backbone
BOUNDS: dict[str, Bound] = {
    "seeds": SEED,
    "backbones": Backbone(),
    **dict.fromkeys(("facts", "sweep_facts", "paraphrase_facts", "ablation_facts", "capacity_facts"), FACTS),
    **dict.fromkeys(("timed_facts", "fewer_facts", "absent", "others", "trade_facts", "live_facts"), FACTS),
    **dict.fromkeys(("general", "other", "held_out"), KNOWN),
    **dict.fromkeys(("epochs", "ablation_epochs", "underfit_epochs"), EPOCHS),
    **dict.fromkeys(("checkpoints", "moments", "measured_at"), EPOCH),
    **dict.fromkeys(("router_steps", "network_steps"), STEPS),
    "router_questions": Range(1, "all"),
    **dict.fromkeys(("learning_rate", "learning_rates", "full_learning_rate", "expert_learning_rate"), RATE),
    **dict.fromkeys(("lora_learning_rate", "all_weights_rate"), RATE),
    # LoRA's: 0 is never reached, and so means none
    **dict.fromkeys(("stop_loss", "stop_losses"), NO_LOSS),
    **dict.fromkeys(("lora_stop_loss", "paper_loss", "high_loss", "fact_loss"), LOSS),
    **dict.fromkeys(("enough", "closely", "margin", "false_alarms"), SHARE),
    **dict.fromkeys(("rank", "ranks"), RANK),
    **dict.fromkeys(("num_experts", "fewer_experts", "large", "experts"), EXPERTS),
    **dict.fromkeys(("small_banks", "live_banks"), ANY_EXPERTS),
    "top_k": Range(1, "num_experts"),
    "top_layers": Range(1, "layers"),
    **dict.fromkeys(("layers", "router_layer"), Range(0, "last layer")),
    **dict.fromkeys(("batch_size", "kept_facts", "kept_edits", "shown_samples", "exercises", "practice"), COUNT),
    **dict.fromkeys(
        ("samples", "digits", "characters", "live_characters", "lookups", "conflict_visits", "cells"), SMALL
    ),
    **dict.fromkeys(("network_facts", "network_length", "singles"), SMALL),
    **dict.fromkeys(("folds", "passes", "network_vocabulary"), FEW),
    "live_edits": Range(1, "half"),
    "values": Range(1, "pairs"),
    "fitted": Range(3, 39),  # epochs of the committed curves, which have 40
    **dict.fromkeys(("size", "tokens", "text_tokens", "target_facts"), LARGE),
    **dict.fromkeys(("d_in", "d_out"), RANK),
    "drawn_tokens": COUNT,
    "datasets": OneOf(("shipped", "truthfulqa", "mmlu")),
    "answers": OneOf(("real", "random", "shuffled")),
    "target_modules": OneOf(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), shipped=True
    ),
    "optimizer": OneOf(("adam", "adafactor")),
    "curves": OneOf(("tiny-llama", "tiny-mistral")),
    "models": OneOf(("high", "zero", "zero_mome")),
    "live_ablations": OneOf(
        (
            *("as built", "no null key", "no anchors, no null key", "phase 1 as the paper says", "no phase 1"),
            *("router not frozen", "k = 8", "k = 1", "N = k, nothing to choose"),
        )
    ),
    "causes": OneOf(("plain", "conflict_even", "conflict_uneven", "conflict_dated", "outdated", "updated", "skew")),
    "live_methods": OneOf(
        (
            *("backbone", "prompt", "rag_bm25", "rag_tfidf", "rag_dense", "rag_bm25_bare"),
            *("index_bm25", "index_tfidf", "index_dense", "index_faiss", "sql", "knn_lm"),
            *("lora", "full", "mome", "mome_rag"),
        )
    ),
}

# where a notebook uses a name in another way
OWN_BOUNDS: dict[tuple[str, str], Bound] = {
    ("00_start_here", "facts"): KNOWN,
    ("05_fig4_architecture", "num_experts"): ANY_EXPERTS,
    ("05_fig4_architecture", "router_questions"): Range(1, "half"),
    ("09_sec4_retrieval", "facts"): Range(1, 100_000),  # beyond the shipped ones they are made up
    ("09_sec4_retrieval", "trade_facts"): Range(1, 100_000),
    ("10_sec5_threshold", "facts"): KNOWN,
    ("12_sec7_kernels", "facts"): RANK,
    ("12_sec7_kernels", "tokens"): RANK,
    ("12_sec7_kernels", "num_experts"): Range(1, 2**30),
    ("14_sec4_explanations", "facts"): Range(1, "half unknown"),
    ("15_text_to_sql", "facts"): Range(1, "pairs"),
    # memory experts stop by the worst token of a fact, and need a bound that can be reached
    ("00_start_here", "stop_loss"): LOSS,
    ("05_fig4_architecture", "stop_loss"): LOSS,
    ("11_sec7_scaling", "stop_loss"): LOSS,
    ("13_sec8_insights_fallacies", "stop_loss"): LOSS,
    ("15_text_to_sql", "stop_loss"): LOSS,
    ("16_sec10_editing", "stop_loss"): LOSS,
}


def bound_of(stem: str, name: str) -> Bound | None:
    """The bound of one notebook's parameter; None where any value of its type will do."""
    return OWN_BOUNDS.get((stem, name), BOUNDS.get(name))


def out_of_range(stem: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A complaint for each value (of a list: each item) that its bound does not allow: name, value, what is allowed."""
    for name, value in values.items():
        bound = bound_of(stem, name)
        if bound is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            allowed = bound.complaint(item, values)
            if allowed:
                yield f"parameter {name!r}: got {item!r}, allowed: {allowed}"
