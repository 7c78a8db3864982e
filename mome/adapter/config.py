"""Settings of a MoME adapter, as a PEFT configuration."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from peft import PeftConfig
from pydantic import GetCoreSchemaHandler, PlainSerializer, PlainValidator

METHOD = "MOME"
TASK = "MOME_CAUSAL_LM"
TASKS = (None, "CAUSAL_LM", TASK)
INDEXES = ("flat", "product_key")
DTYPES = ("float32", "bfloat16")
MOST_EXPERTS = 2**40
TOP = "top"
UPPER_HALF = "upper_half"
MOST_TOP_LAYERS = 3  # of SmolLM2's 30 they recall what 15 recall, with a fifth of the numbers for each fact
# in the labels of all kept runs, beside the layers
LABELLED = ("num_experts", "top_k", "target_modules", "router_layer", "index", "init_scale", "dtype", "storage", "snap")


@dataclass
class MomeConfig(PeftConfig):
    """A mixture of memory experts: PEFT's `get_peft_model(backbone, MomeConfig(...))`.

    The one place for these settings and their defaults: `mome tune`, `memorize` and the notebooks take them from here.
    Paper: 32 experts of 1,000,000 (section 7.1), rank 32 in all (appendix A), hence 32 of rank 1. The rest is ours, as
    the paper prints neither the adapted modules, nor the router's layer, nor how experts start (LOG.md has the trials).

    Args:
        num_experts: N. With `index="product_key"` it must have two factors of about the same size.
        top_k: K, experts for one question.
        rank: R of each expert's slice.
        target_modules: linear modules to adapt, as PEFT reads it; None: all three of the MLPs. Only layers from
            `router_layer` upward are adapted, whatever a pattern matches.
        layers_to_transform: the decoder layers to adapt, as PEFT reads it; None: all from `router_layer` upward. The
            default "top", the last three but at most half of them, becomes a list once a model is there, as does
            "upper_half"; beside a pattern in `target_modules` it is None.
        router_layer: the decoder layer whose input the router reads. None becomes a quarter of the depth, at least 1,
            once a model is there.
        index: "product_key" or "flat".
        key_size, router_heads: width of queries and keys, number of attention-pooling heads.
        temperature: of the softmax over the K scores; None gives all K experts the same weight.
        scale: the mean weight of an expert.
        init_scale: a starts uniform within init_scale / sqrt(d_in); 1 is PEFT's LoRA.
        dtype: of the stored rows, "float32" or "bfloat16".
        storage: a folder for memory-mapped rows; None keeps them in memory. Not saved: it belongs to one machine.
        min_score: the rejection threshold (null key): if the similarity to the nearest memorized question is below
            it, no expert is used. None: no question is rejected.
        snap: whether a question near a memorized one takes exactly that one's experts.
        least_names: the check of names: a question that has less than this share of the words that all wordings of a
            memorized fact share (by rarity; typing errors allowed) is not taken for it. None: no check.
        seed: draws keys, the router's start and the experts' start.

    Raises:
        ValueError: a field has a value that cannot work; the message names both.

    Example:
        >>> from peft import get_peft_model
        >>> from mome import MomeConfig, load_backbone
        >>> model = get_peft_model(load_backbone("tiny-llama").model, MomeConfig(num_experts=1024))
        >>> sorted(model.peft_config["default"].target_modules)
        ['gate_proj']
    """

    num_experts: int = field(default=65_536)
    top_k: int = field(default=32)
    rank: int = field(default=1)
    target_modules: list[str] | str | None = field(default_factory=lambda: ["gate_proj"])
    layers_to_transform: list[int] | str | None = field(default=TOP)
    router_layer: int | None = field(default=None)
    index: str = field(default="product_key")
    key_size: int = field(default=128)
    router_heads: int = field(default=8)
    temperature: float | None = field(default=0.2)
    scale: float = field(default=1.0)
    init_scale: float = field(default=32.0)
    dtype: str = field(default="float32")
    storage: str | None = field(default=None)
    min_score: float | None = field(default=None)
    snap: bool = field(default=True)
    least_names: float | None = field(default=None)
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        self._check("task_type", self.task_type in TASKS, "CAUSAL_LM, or None for the same")
        self.task_type = None
        super().__post_init__()
        # by name, as PEFT's enumerations cannot be extended; the task picks the class that saves and loads the bank
        vars(self).update(peft_type=METHOD, task_type=TASK)
        self._check_counts()
        self._check_numbers()
        self._check("index", self.index in INDEXES, f"one of {', '.join(INDEXES)}")
        self._check("dtype", self.dtype in DTYPES, f"one of {', '.join(DTYPES)}")
        self._check("snap", isinstance(self.snap, bool), "True or False")
        self._check("storage", self.storage is None or isinstance(self.storage, str), "the name of a folder, or None")
        self._check("target_modules", _names_modules(self.target_modules), "names, a regular expression, or None")
        layers, pattern = self.layers_to_transform, isinstance(self.target_modules, str)
        self._check(
            "layers_to_transform", _names_layers(layers), f"numbers of decoder layers, {TOP!r}, {UPPER_HALF!r}, or None"
        )
        fine = not (pattern and isinstance(layers, list))
        self._check("layers_to_transform", fine, "left out beside a pattern in target_modules, which names them")
        if self.index == "product_key":
            self._check("key_size", self.key_size % 2 == 0, "even, because a product key has two halves")
            near = 16 * balanced_factor(self.num_experts) ** 2 >= self.num_experts
            self._check("num_experts", near, "a product of two numbers of similar size, such as 65,536 or 1,000,000")

    def _check_counts(self) -> None:
        for name in ("num_experts", "top_k", "rank", "key_size", "router_heads"):
            self._check(name, _is_count(getattr(self, name), 1), "a whole number of at least 1")
        self._check("seed", _is_count(self.seed, 0), "a whole number of at least 0")
        layer = self.router_layer
        self._check("router_layer", layer is None or _is_count(layer, 0), "a whole number of at least 0, or None")
        self._check("num_experts", self.num_experts <= MOST_EXPERTS, f"at most {MOST_EXPERTS:,}")
        self._check("top_k", self.top_k <= self.num_experts, f"at most num_experts ({self.num_experts})")

    def _check_numbers(self) -> None:
        for name in ("scale", "init_scale"):
            self._check(name, _is_positive(getattr(self, name)), "a number above 0")
        self._check("temperature", self.temperature is None or _is_positive(self.temperature), "above 0, or None")
        cosine = self.min_score is None or (_is_number(self.min_score) and -1 <= self.min_score <= 1)
        self._check("min_score", cosine, "a cosine between -1 and 1, or None")
        share = self.least_names is None or (_is_positive(self.least_names) and self.least_names <= 1)
        self._check("least_names", share, "a share above 0 and at most 1, or None")
        self._check("least_names", self.snap or self.least_names is None, "None where snap is False")

    def _check(self, name: str, fine: bool, wanted: str) -> None:
        if not fine:
            raise ValueError(f"MomeConfig: {name} must be {wanted}, got {getattr(self, name)!r}")

    def read_layer(self, count: int) -> int:
        """The decoder layer whose input the router reads in a model that has `count`.

        Raises:
            ValueError: the model does not have it.
        """
        if self.router_layer is None:
            return min(max(1, (count + 2) // 4), count - 1)  # a quarter, rounded half up
        self._check("router_layer", self.router_layer < count, f"below {count} here")
        return self.router_layer

    def adapted_layers(self, count: int) -> list[int] | None:
        """The decoder layers to adapt in a model that has `count`; None: all from `router_layer` upward that match.

        Raises:
            ValueError: the model does not have the router's layer or one of these, or one lies below the router's.
        """
        lowest = self.read_layer(count)
        if self.layers_to_transform is None or isinstance(self.target_modules, str):
            return None
        if isinstance(self.layers_to_transform, list):
            chosen = self.layers_to_transform
        else:
            top = min((count + 1) // 2, MOST_TOP_LAYERS) if self.layers_to_transform == TOP else (count + 1) // 2
            chosen = list(range(max(count - top, lowest), count))
        fine = lowest <= min(chosen) <= max(chosen) < count
        self._check("layers_to_transform", fine, f"from router_layer ({lowest}) to {count - 1} here")
        return chosen

    def own(self) -> dict[str, Any]:
        """The fields that are not PEFT's; without `least_names` where it is None, as before there was such a check."""
        inherited = {each.name for each in fields(PeftConfig)}
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in inherited}
        return _without_unused(found)

    def label(self, count: int) -> dict[str, Any]:
        """What a kept run on a model of `count` layers is known by: `LABELLED`, layers, fields that are no default.

        `layers` is None for the default; `storage` is always None, as it does not decide a result.
        """
        default, found = MomeConfig().own(), {}
        for name, value in {**self.own(), "router_layer": self.read_layer(count), "storage": None}.items():
            if name == "layers_to_transform":
                found["layers"] = None if value == TOP else value or "all"
            elif name in LABELLED or name not in default or value != default[name]:
                found[name] = sorted(value) if isinstance(value, (set, tuple)) else value
        return found

    @classmethod
    def check_kwargs(cls, **kwargs: Any) -> dict[str, Any]:
        """The fields that PEFT has read from a file; without a folder for rows, which belongs to another machine."""
        if kwargs.get("storage") is not None:
            warnings.warn(f"adapter_config.json: its storage {kwargs['storage']!r} is not followed", stacklevel=3)
        return {**kwargs, "storage": None}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """As a field of `Settings`: a MomeConfig, or a dict of its own fields, which is also how it is dumped."""
        return handler.generate_schema(Annotated[Any, PlainValidator(cls._taken), PlainSerializer(cls.own)])

    @classmethod
    def _taken(cls, value: Any) -> MomeConfig:
        try:
            return value if isinstance(value, cls) else cls(**value)
        except TypeError as error:  # no such field, or no dict: pydantic expects a ValueError
            raise ValueError(f"MomeConfig: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The fields as they are saved."""
        return _without_unused({**super().to_dict(), "task_type": "CAUSAL_LM", "storage": None})


def balanced_factor(number: int) -> int:
    """The largest divisor of `number` that is at most its square root."""
    return next(rows for rows in range(math.isqrt(number), 0, -1) if number % rows == 0)


def _without_unused(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "least_names" or value is not None}


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and _is_number(value) and value > 0


def _names_modules(value: object) -> bool:
    if isinstance(value, (list, set, tuple)):
        return bool(value) and all(isinstance(name, str) for name in value)
    return value is None or (isinstance(value, str) and bool(value))


def _names_layers(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_count(layer, 0) for layer in value)
    return value is None or value in (TOP, UPPER_HALF)
