"""Generated SQL is run where it can change nothing, and its result is compared as the question asks."""

import sqlite3
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest

from mome.files.hashing import file_sha256
from mome.replication.paper.text_to_sql.database import build_database, schema
from mome.replication.paper.text_to_sql.execution import Limits, asks_for_order, executes_right, run_sql, same_rows

HARMFUL = [
    "drop table job",
    "delete from job",
    "update job set charge=0",
    "insert into part values('P99','x','K1',1.0,1)",
    "replace into part values('P10','x','K1',1.0,1)",
    "create table more(x)",
    "create temp table more(x)",
    "alter table job rename to jobs",
    "attach database 'other.sqlite' as other",
    "attach database ':memory:' as other",
    "detach database main",
    "pragma user_version=7",
    "pragma writable_schema=on",
    "pragma table_info(job)",
    "select * from pragma_table_info('job')",
    "vacuum",
    "vacuum into 'copy.sqlite'",
    "reindex",
    "analyze",
    "begin immediate",
    "savepoint a",
    "select load_extension('evil')",
    "select 1; drop table job",
    "select 1; select 2",
    "with recursive n(x) as (select 1 union all select x+1 from n) select count(*) from n",
    "with recursive n(x) as (select 1 union all select x+1 from n) select x from n",
    "select count(*) from job a, job b, job c",
    "select * from job a, job b",
    "select zeroblob(1000000000)",
    "select hex(zeroblob(90000))",
    "select group_concat(a.number||b.number) from job a, job b",
    "select " + "(" * 2_000 + "1" + ")" * 2_000,
    "select '" + "x" * 200_000 + "'",
    "select 'a\x00b' from job\x00; drop table job",
    "select '\ud800'",
    "not sql at all",
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("workshop") / "workshop.sqlite")


@pytest.mark.parametrize("statement", HARMFUL, ids=lambda text: ascii(text[:40]))
def test_what_is_not_one_modest_select_is_an_error_and_changes_no_file(
    statement: str, database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(database.parent)
    before, files = file_sha256(database), sorted(database.parent.iterdir())
    outcome = run_sql(database, statement, Limits(instructions=200_000))
    assert outcome.error and outcome.rows is None
    assert file_sha256(database) == before
    assert sorted(database.parent.iterdir()) == files


def test_the_statements_are_harmful_where_nothing_guards(database: Path, tmp_path: Path):
    """Else the test above would show nothing."""
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(database.read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute("drop table job")
        connection.execute("pragma user_version=7")
    connection.close()
    assert file_sha256(copy) != file_sha256(database)
    assert "number" not in schema(copy)


def test_rows_are_those_that_an_open_connection_gives(database: Path):
    statement = "select name,town from customer where tier='G' order by since desc limit 5"
    with sqlite3.connect(database) as connection:
        expected = connection.execute(statement).fetchall()
    connection.close()
    assert run_sql(database, statement).rows == expected
    assert len(expected) == 5


def test_a_result_of_just_as_many_rows_as_the_limit_passes(database: Path):
    count = run_sql(database, "select count(*) from part").rows
    assert count == [(10,)]
    assert len(run_sql(database, "select * from part", Limits(rows=10)).rows or []) == 10
    assert run_sql(database, "select * from part", Limits(rows=9)).error == "more than 9 rows"


@pytest.mark.parametrize("statement", ["", "-- nothing", ";"])
def test_an_empty_statement_gives_no_rows_and_is_no_right_answer(statement: str, database: Path):
    assert not run_sql(database, statement).rows
    assert not executes_right(database, "select count(*) from job", statement)


def test_seconds_end_a_statement_that_the_instructions_would_let_pass(database: Path):
    limits = Limits(instructions=10**15, seconds=0.05)
    assert "interrupted" in (run_sql(database, "select count(*) from job a, job b, job c", limits).error or "")


def test_a_missing_database_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.sqlite: no such database"):
        run_sql(tmp_path / "nowhere.sqlite", "select 1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select a from t order by a", True),
        ("SELECT a FROM t\nORDER  BY a DESC LIMIT 1", True),
        ("select a from (select a from t order by a limit 3)", False),
        ("select a from t where b='x order by y'", False),
        ("select a from t where b='it''s (' order by a", True),
        ("select max((a)),(select b from u order by b limit 1) from t", False),
        ("select border by_name from t", False),
    ],
)
def test_only_the_outermost_order_counts(statement: str, expected: bool):
    assert asks_for_order(statement) is expected


def test_results_without_order_are_compared_as_multisets():
    rows = [(1, "a"), (1, "a"), (2, None)]
    for other in permutations(rows):
        assert same_rows(rows, list(other), ordered=False)
        assert same_rows(rows, list(other), ordered=True) is (list(other) == rows)
    assert not same_rows(rows, [(1, "a"), (2, None), (2, None)], ordered=False)
    assert not same_rows(rows, rows[:2], ordered=False)
    assert not same_rows([(1, 2)], [(2, 1)], ordered=False)
    assert same_rows([(0.1 + 0.2,)], [(0.3,)], ordered=True)
    assert not same_rows([("3",)], [(3,)], ordered=True)


def test_execution_counts_what_gives_the_same_result_and_nothing_else(database: Path):
    gold = "select name from technician order by hired"
    assert executes_right(database, gold, "select t.name from technician t order by t.hired asc")
    assert not executes_right(database, gold, "select name from technician order by hired desc")
    assert executes_right(database, "select name from technician", "select name from technician order by hired desc")
    assert not executes_right(database, gold, "drop table technician")
    assert not executes_right(database, gold, "")
    with pytest.raises(ValueError, match="gold SQL 'select x': OperationalError: no such column"):
        executes_right(database, "select x", "select 1")


def test_the_file_is_built_to_the_same_bytes(database: Path, tmp_path: Path):
    again = build_database(tmp_path / "deep" / "again.sqlite")
    assert file_sha256(again) == file_sha256(database)
    assert sorted(path.name for path in again.parent.iterdir()) == ["again.sqlite"]
    tables = Counter(line.partition("(")[0] for line in schema(again).splitlines())
    assert tables == Counter(["customer", "technician", "instrument", "job", "part", "fitting"])
