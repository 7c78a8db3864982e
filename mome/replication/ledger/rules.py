"""All rules by claim, in the order of `data/claims.csv`."""

from __future__ import annotations

from mome.replication.ledger import benchmarks, causes, cost, forgetting, memorizing, uses
from mome.replication.ledger.rule import Rule

EVERY: tuple[Rule, ...] = (
    *memorizing.RULES,
    *forgetting.RULES,
    *causes.RULES,
    *cost.RULES,
    *uses.RULES,
    *benchmarks.RULES,
)
RULES: dict[str, Rule] = {rule.claim: rule for rule in sorted(EVERY, key=lambda rule: rule.claim)}
