"""Settings are copied with changes, one level deep, and with another seed in every part."""

import pytest

from mome.files.records import Amount, Settings


class Inner(Settings):
    seed: Amount = 0
    rank: Amount = 4


class Outer(Settings):
    unseeded = ("fixed",)

    part: Inner = Inner(rank=8)
    fixed: Inner = Inner()
    extra: Inner | None = None
    size: Amount = 1


class Deep(Settings):
    outer: Outer = Outer()
    seed: Amount = 0


def test_a_change_leaves_the_other_fields_and_the_original():
    outer = Outer()
    changed = outer.but(part={"seed": 3}, size=2, extra={"rank": 1})
    assert changed == Outer(part=Inner(seed=3, rank=8), extra=Inner(rank=1), size=2)
    assert outer == Outer() and type(changed) is Outer


@pytest.mark.parametrize("changes", [{"nothing": 1}, {"nothing": {"rank": 1}}, {"part": {"rank": -1}}, {"size": "2"}])
def test_a_change_that_cannot_be_is_refused(changes: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(changes))):
        Outer().but(**changes)


def test_a_seed_reaches_all_parts_but_those_that_keep_theirs():
    expected = Deep(seed=7, outer=Outer(part=Inner(seed=7, rank=8)))
    assert Deep().seeded(7) == expected
