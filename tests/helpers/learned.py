"""What the fixture `learned` gives to tests."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mome.train.tuning import TuningRun


@dataclass(frozen=True)
class Learned:
    """A model tuned by LoRA until it knows `facts`, the run, and the backbone's parameters from before."""

    model: Any
    run: "TuningRun"
    before: dict[str, Any]
