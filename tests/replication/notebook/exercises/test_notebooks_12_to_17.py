"""Each exercise of notebooks 12 to 17 takes the right answer, and says of typical wrong ones what is wrong."""

import pytest
import torch

from mome.replication.notebook.exercises.checking import judge
from mome.replication.notebook.exercises.notebooks_12_to_17 import EXERCISES
from mome.replication.paper.sec8_blind_benchmarks.detectors import auc
from mome.replication.paper.text_to_sql.database import build_database
from mome.replication.paper.text_to_sql.execution import executes_right, run_sql

GOLD = "select name,grade from technician order by hired limit 3"
WITHOUT = (
    "select name, grade from technician t "
    "where (select count(*) from technician o where o.hired < t.hired) < 3 order by hired"
)


def sums(ids, rows):
    distinct, places = ids.unique(return_inverse=True)
    return distinct, torch.zeros(len(distinct), rows.shape[1]).index_add(0, places, rows)


def sums_by_assignment(ids, rows):
    distinct, places = ids.unique(return_inverse=True)
    found = torch.zeros(len(distinct), rows.shape[1])
    found[places] += rows  # of equal places the last is written
    return distinct, found


def means(ids, rows):
    return sums(ids, rows)[0], sums(ids, rows)[1] / ids.unique(return_counts=True)[1][:, None]


def as_they_come(ids, rows):
    distinct = torch.tensor(list(dict.fromkeys(ids.tolist())))
    return distinct, torch.stack([rows[ids == each].sum(dim=0) for each in distinct])


RIGHT = [
    ("12.a", sums),
    ("12.b", 119),
    ("13.a", 3000),
    ("13.b", 8 / 9),
    ("14.a", 1.04),
    ("14.b", 2.303),
    ("15.a", WITHOUT),
    ("15.b", "c"),
    ("16.a", 31.8),
    ("16.b", 0.606),
    ("17.a", auc([5, 4, 3, 2, 1], [False, True, True, False, False])),
    ("17.b", "b"),
]
WRONG = [
    ("12.a", sums_by_assignment, "only the last is left"),
    ("12.a", means, "that is the mean"),
    ("12.a", as_they_come, "ascending order"),
    ("12.a", lambda *x: sums(*x)[1], "sums alone"),
    ("12.a", lambda ids, rows: (ids, rows), "shape [6]; [3]"),
    ("12.b", 1024, "every pair"),
    ("12.b", 110.9, "estimate"),
    ("13.a", 1000, "37%"),
    ("13.a", 187.5, "digits are asked for"),
    ("13.b", 1 / 9, "not covered"),
    ("13.b", 0.8, "nine others"),
    ("14.a", 1.5, "bits"),
    ("14.a", 1.0986, "three answers of equal shares"),
    ("14.b", 0.325, "mean over both"),
    ("14.b", 1.0, "base 10"),
    ("15.a", GOLD, "limit may not"),
    ("15.a", "select nickname from technician", "does not run"),
    ("15.a", "select name,grade from technician", "their order differ"),
    ("15.a", 3, "type int"),
    ("15.b", "a", "writes nothing"),
    ("16.a", 20.67, "do not add up"),
    ("16.a", 0.0315, "upside down"),
    ("16.b", 0.5, "only once"),
    ("16.b", 0.3935, "is lost"),
    ("17.a", 1 / 3, "healthy one stands in front"),
    ("17.a", 4, "share of all pairs"),
    ("17.b", "d", "after the fact"),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What the exercise cells pass, by the name of the exercise."""
    database = build_database(tmp_path_factory.mktemp("sql") / "workshop.sqlite")
    return {
        "15.a": {
            "is_right": lambda text: executes_right(database, GOLD, text),
            "error": lambda text: run_sql(database, text).error,
        }
    }


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_right_answer_is_right(name: str, answer: object, seen: dict):
    mark = judge(name, answer, **seen.get(name, {}))
    assert mark.right is True, mark.said


@pytest.mark.parametrize(("name", "answer", "reason"), WRONG)
def test_a_wrong_answer_is_told_why(name: str, answer: object, reason: str, seen: dict):
    mark = judge(name, answer, **seen.get(name, {}))
    assert mark.right is False and reason in mark.said


@pytest.mark.parametrize("name", EXERCISES)
def test_each_exercise_has_a_right_and_a_wrong_answer_here(name: str):
    assert name in {row[0] for row in RIGHT} and name in {row[0] for row in WRONG}
