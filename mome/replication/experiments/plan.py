"""The recipe of a memorization, and the runs that the notebooks compare."""

from __future__ import annotations

from dataclasses import dataclass

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.files.records import Count, Settings
from mome.lm.loading import Backbone
from mome.train.settings import MemorySettings, RouterSettings
from mome.train.tuning import TuningRun


@dataclass(frozen=True, slots=True)
class Memorized:
    """A backbone with the adapter that a tuning run trained, and what the run measured."""

    backbone: Backbone
    run: TuningRun
    facts: list[Fact]


class Recipe(Settings):
    """Everything that decides a run of memory experts; `joint` trains router and experts together (an ablation).

    `router_questions` of the shipped facts train the router and set the rejection threshold.
    """

    mome: MomeConfig = MomeConfig()
    router: RouterSettings = RouterSettings()
    memory: MemorySettings = MemorySettings()
    joint: bool = False
    router_questions: Count = 5_000
