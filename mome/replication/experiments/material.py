"""Facts and questions that all methods get: facts to store, out-of-scope questions, facts to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.replication.experiments.made_up import made_up_facts
from mome.train.attach import CALIBRATION_SHARE


@dataclass(frozen=True, slots=True)
class Material:
    """One draw of facts; no fact is in two parts.

    `facts` are held by the methods, `absent` ones (of the same relations) by none, `general` ones are known to the
    shipped backbones. Routers and readers learn from `others`; the questions `calibration` set every threshold.
    """

    facts: list[Fact]
    absent: list[Fact]
    others: list[Fact]
    calibration: list[str]
    general: list[Fact]


def gather(count: int, seed: int, absent: int = 500, others: int = 2_500, general: int = 200) -> Material:
    """Draw `count` facts to hold, and absent ones, by `seed`; a smaller count gives the first of a larger.

    Shipped unknown facts come first, made-up ones make up the rest; the absent ones are mixed in the same proportion.
    The other parts do not depend on the seed, so that one reader serves all: `others` of the unknown facts and the
    known ones that are not general, a fifth of whose questions is held back for calibration.

    Raises:
        ValueError: too few facts are shipped for `absent`, `others` or `general`, or too many are asked for.
    """
    learned, free = split(shipped_facts("unknown"), [others], seed=0)
    known, spare = split(shipped_facts("known"), [general], seed=0)
    pool = [*learned, *spare]
    train, calibration = split(pool, [len(pool) - len(pool) // CALIBRATION_SHARE], seed=0)
    missing, rest = split(free, [absent], seed)
    shipped = rest[:count]
    made_up = made_up_facts(count - len(shipped), seed)
    strange = round(absent * len(made_up) / count)
    both = [*missing[: absent - strange], *made_up_facts(strange, seed, absent=True)]
    return Material([*shipped, *made_up], both, train, [fact.question for fact in calibration], known)
