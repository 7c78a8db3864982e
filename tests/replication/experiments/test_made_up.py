"""Made-up facts: distinct, and always the same for a seed."""

import pytest

from mome.facts.readers import check_facts
from mome.replication.experiments.made_up import made_up_facts


def test_made_up_facts_are_distinct_and_always_the_same():
    drawn, absent = made_up_facts(3_000, 1), made_up_facts(1_000, 1, absent=True)
    check_facts(drawn + absent)  # no id and no wording occurs twice
    assert made_up_facts(40, 1) == drawn[:40] and made_up_facts(40, 2) != drawn[:40]
    assert len({fact.relation for fact in drawn[:100]}) == 5
    assert all(len(fact.phrasings) == 2 and len(fact.held_out) == 1 for fact in drawn)
    with pytest.raises(ValueError, match="must be between 0 and 120,000, not 120,001"):
        made_up_facts(120_001, 0)
