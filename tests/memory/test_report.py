"""A report says of each fact one thing, and its lines do not contradict each other."""

from mome.facts.fact import Fact
from mome.lm.round_trip import Obstacle
from mome.memory.report import Report

FACTS = [Fact(name, f"Where is {name}?", "here") for name in ("a", "b", "c", "d")]


def test_what_is_recalled_is_never_called_not_memorized() -> None:
    report = Report(FACTS, [True, True, False, False], [], ["b", "d"], 7, 2.4)
    assert str(report).split("\n") == [
        "2 of 4 facts recalled exactly after 7 epochs (2 s)",
        "not memorized: c (Where is c?)",
        "not memorized: d (Where is d?)",
        "recalled, but not certain: b (Where is b?)",
    ]
    assert report.not_memorized == FACTS[2:] and report.uncertain == FACTS[1:2]


def test_a_whole_success_has_one_line() -> None:
    assert str(Report(FACTS, [True] * 4, [], [], 3, 1.0, 9.6)).split("\n") == [
        "4 of 4 facts recalled exactly after 3 epochs (1 s, and 10 s once for the router)"
    ]


def test_facts_left_out_stand_in_lines_of_their_own() -> None:
    obstacle = Obstacle(FACTS[3], "answer", "12 \u20ac", "it cannot")
    report = Report(FACTS[:3], [True] * 3, [True, False], [], 3, 1.0, None, 200, 0.015, [obstacle])
    assert str(report).split("\n")[1:] == [
        "1 of 2 recalled exactly in their held-out wording",
        "1.5% of 200 unrelated questions taken for a memorized one",
        "left out: d (Where is d?): answer '12 \u20ac': it cannot",
    ]
