"""The facts and questions that all methods get."""

import pytest

from mome.replication.experiments.material import gather


@pytest.fixture
def root(small_root, monkeypatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(small_root))


def test_no_fact_is_in_two_parts(root):
    sizes = {"absent": 20, "others": 60, "general": 12}
    small, large = gather(30, 5, **sizes), gather(400, 5, **sizes)
    for drawn in (small, large):
        parts = [drawn.facts, drawn.absent, drawn.others, drawn.general]
        groups = [{fact.question for fact in part} for part in parts] + [set(drawn.calibration)]
        assert sum(map(len, groups)) == len(set().union(*groups))
        assert (len(drawn.absent), len(drawn.general)) == (20, 12)
    assert large.facts[:30] == small.facts and large.others == small.others
    assert len(small.calibration) == (len(small.calibration) + len(small.others)) // 5
    made_up = [fact.relation for fact in large.facts].count("room")
    assert made_up > 0 and any(fact.id.startswith("made_up/") for fact in large.absent)
    assert not any(fact.id.startswith("made_up/") for fact in small.absent)
    other = gather(30, 6, **sizes)
    assert other.others == small.others and other.facts != small.facts
