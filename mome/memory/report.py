"""The report of a memorization: which facts are recalled, which are uncertain, which were left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from mome.facts.fact import Fact
from mome.lm.round_trip import Obstacle


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a memorization; `str` gives them as lines of text.

    Args:
        recalled: for each fact, whether it is answered exactly; `held_out` the same for an unseen paraphrase, for each
            fact that has one.
        failed: ids of facts whose loss stayed above its target.
        seconds: training time of the experts (or of LoRA); `router_seconds` that of the router, which other runs on
            this backbone share.
        unrelated: number of out-of-scope questions that were tried; `mistaken` is the share of them that were taken
            for a memorized one (the false-positive rate).
        left_out: facts that the backbone cannot hold; they are not among `facts`.
    """

    facts: list[Fact]
    recalled: list[bool]
    held_out: list[bool]
    failed: list[str]
    epochs: int
    seconds: float
    router_seconds: float | None = None
    unrelated: int = 0
    mistaken: float = 0.0
    left_out: list[Obstacle] = field(default_factory=list)

    @property
    def not_memorized(self) -> list[Fact]:
        """The facts that are not answered exactly."""
        return [fact for fact, right in zip(self.facts, self.recalled, strict=True) if not right]

    @property
    def uncertain(self) -> list[Fact]:
        """The facts that are answered exactly, but with a loss above its target."""
        failed, pairs = set(self.failed), zip(self.facts, self.recalled, strict=True)
        return [fact for fact, right in pairs if right and fact.id in failed]

    def __str__(self) -> str:
        router = "" if self.router_seconds is None else f", and {self.router_seconds:.0f} s once for the router"
        said = f"{sum(self.recalled)} of {len(self.facts)} facts recalled exactly after {self.epochs} epochs"
        lines = [f"{said} ({self.seconds:.0f} s{router})"]
        if self.held_out:
            lines += [f"{sum(self.held_out)} of {len(self.held_out)} recalled exactly in their held-out wording"]
        if self.unrelated:
            lines += [f"{self.mistaken:.1%} of {self.unrelated:,} unrelated questions taken for a memorized one"]
        lines += [f"not memorized: {fact.id} ({fact.question})" for fact in self.not_memorized]
        lines += [f"recalled, but not certain: {fact.id} ({fact.question})" for fact in self.uncertain]
        return "\n".join([*lines, *(f"left out: {obstacle}" for obstacle in self.left_out)])
