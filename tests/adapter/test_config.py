"""MomeConfig refuses values that cannot work, by the field's name and the value."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig

import mome
from mome.adapter.config import balanced_factor
from mome.adapter.model import MomeConfig


def test_the_package_offers_it() -> None:
    assert mome.MomeConfig is MomeConfig
    with pytest.raises(AttributeError, match="nothing"):
        _ = mome.nothing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (field, value)
            for field in ("num_experts", "top_k", "rank", "key_size", "router_heads")
            for value in (0, -1)
        ),
        *(
            (field, value)
            for field in ("num_experts", "rank", "router_layer", "seed")
            for value in (1.0, True, "8", None)
        ),
        *product(("router_layer", "seed"), (-1,)),
        *product(("scale", "init_scale"), (0, -1.0, None, "1", float("nan"))),
        ("top_k", 65_537),
        ("num_experts", 65_537),  # a prime number has no product keys
        ("key_size", 15),
        ("index", "hnsw"),
        ("dtype", "float16"),
        ("temperature", 0.0),
        ("temperature", "hot"),
        ("min_score", 1.5),
        ("min_score", float("nan")),
        ("snap", None),
        ("storage", 3),
        ("target_modules", []),
        ("target_modules", [1]),
        ("target_modules", ""),
        ("task_type", "SEQ_CLS"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        MomeConfig(**{field: value})
    assert str(caught.value).startswith(f"MomeConfig: {field} must be ")
    assert str(caught.value).endswith(f", got {value!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_experts": 1_000_000},
        {"num_experts": 65_537, "index": "flat"},
        {"num_experts": 32, "top_k": 32, "index": "flat", "key_size": 15, "temperature": None},
        {"task_type": "CAUSAL_LM", "min_score": -1, "storage": "rows", "target_modules": {"q_proj"}},
    ],
)
def test_a_config_comes_back_from_its_file(changes: dict[str, Any], tmp_path: Path) -> None:
    config = MomeConfig(**changes)
    config.save_pretrained(str(tmp_path))
    for kind in (MomeConfig, PeftConfig):
        found = kind.from_pretrained(str(tmp_path))
        assert isinstance(found, MomeConfig)
        assert found.to_dict() == {**config.to_dict(), "target_modules": found.target_modules}
        assert found.storage is None
    assert all(getattr(config, name) == value for name, value in changes.items() if name != "task_type")


@pytest.mark.parametrize(
    ("number", "factor"), [(1, 1), (7, 1), (12, 3), (65_536, 256), (1_000_000, 1000), (999_999, 999)]
)
def test_balanced_factor(number: int, factor: int) -> None:
    assert balanced_factor(number) == factor
