"""Whatever the statement is: an outcome within the limits, and every file and the next statement as before."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mome.files.hashing import file_sha256
from mome.replication.paper.text_to_sql.database import build_database, practice_pairs, workshop_pairs
from mome.replication.paper.text_to_sql.execution import LONGEST_TEXT, Limits, run_sql

LONG = "printf('%.*c',90000,'a')"
LONG_CALL = "length(printf('%.*c',1000000000,'x'))"
DOUBLING = "with c0 as (select 1 x)" + "".join(
    f",c{place} as (select a.x from c{place - 1} a,c{place - 1} b)" for place in range(1, 40)
)
HIDDEN_EXPLAIN = [
    "explain select 1",
    "EXPLAIN QUERY PLAN select 1",
    " ; ;explain select 1",
    "-- select 1\nexplain select 1",
    "/* */ explain /* */ select 1",
    "/**/explain/**/select 1",
    "\ufeffexplain select 1",
    "explain with a as (select 1) select * from a",
    "explain vacuum",
]
LEAKS = [
    "select fts3_tokenizer('simple')",
    "select hex(FTS3_Tokenizer('simple'))",
    "select fts3_tokenizer('simple',x'00')",
    "select 1 where fts3_tokenizer('porter') is null",
    "select * from fts3tokenize('simple')",
    "select * from sqlite_stmt",
    "select * from dbstat",
    "select * from pragma_function_list",
    "select sqlite_compileoption_get(1)",
    "select sqlite_log(1,'text')",
    "select changes()",
]
ABSENT = [
    "select readfile('a.sqlite')",
    "select writefile('made.txt','x')",
    "select * from generate_series(1,1000000000)",
    "select edit('x')",
]
HUGE = [
    "select randomblob(1000000000)",
    f"select hex(hex(hex(hex({LONG}))))",
    "select replace(replace('" + "a" * 300 + "','a','" + "b" * 3_000 + "'),'b','cc')",
    f"select group_concat({LONG}) from job",
    DOUBLING + " select count(*) from c39",
    "select " + "(" * 90_000,
    "select " + "not " * 20_000 + "1",
    "select " + ",".join("1" * 3_000),
    "select " + ",".join([LONG] * 1_500),
    "select " + ",".join([LONG] * 150),
    f"select a.number from job a,job b order by {LONG}||a.number",
    "select ntile(1000) over (order by a.number,b.number) from job a,job b",
    "select 1" + " union all select 1" * 600,
    "select json_extract('" + "[" * 40_000 + "','$')",
    "select count(*) from json_each('" + "[" * 2_000 + "]" * 2_000 + "')",
    "x" * 100_000_000,
    "values" + ",".join(["(1)"] * 20_000),
    "select ?",
    "select 1\x00",
]
ORDINARY = {
    "select count(*),sum(charge)>0,avg(charge)>0,min(number),total(0),abs(-1) from job where number like 'J00%'": 1,
    "select round(2.5),length('é'),upper('a')||lower('B'),substr('abc',2,1),trim(' a '),replace('ab','b','c')": 1,
    "select coalesce(null,1),ifnull(null,2),nullif(1,1),iif(1,'a','b'),typeof(1),instr('abc','c'),hex('a'),char(97)": 1,
    "select date('2020-01-31','+1 month'),julianday('2020-01-01'),strftime('%Y','2020-01-01'),cast('7' as integer)": 1,
    "select printf('%.2f',1.005),json_extract('{\"a\":[1]}','$.a[0]'),sqrt(4),'abc' glob 'a*',1 between 0 and 2": 1,
    "select row_number() over w,rank() over w,lag(code) over w from part window w as (order by name)": 10,
    "with few as (select * from part limit 3) select group_concat(code) from few": 1,
    "/* a note */ -- and another\n ;values (1),(2)": 2,
    "select name from sqlite_master where type='table'": 6,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("attacked") / "workshop.sqlite")


@pytest.mark.parametrize("statement", [*HIDDEN_EXPLAIN, *LEAKS, *ABSENT, *HUGE], ids=lambda text: ascii(text[:40]))
def test_an_attack_is_an_error_and_leaves_files_and_the_next_statement_alone(
    statement: str, database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(database.parent)
    before, files = file_sha256(database), sorted(database.parent.iterdir())
    outcome = run_sql(database, statement, Limits(seconds=2))
    assert outcome.error and outcome.rows is None
    assert (file_sha256(database), sorted(database.parent.iterdir())) == (before, files)
    assert run_sql(database, "select count(*) from part").rows == [(10,)]


@pytest.mark.parametrize("calls", [1, 5])
def test_a_call_that_the_limit_cannot_reach_from_within_is_ended_from_outside(calls: int, database: Path):
    statement = "select " + ",".join([LONG_CALL] * calls)
    for _ in range(2):
        assert run_sql(database, statement, Limits(seconds=0.1)).error == "ended from outside after 0.6 seconds"
        assert run_sql(database, "select 1").rows == [(1,)]


def test_the_instructions_decide_before_the_seconds(database: Path):
    endless = "select count(*) from job a,job b,job c,job d"
    assert run_sql(database, endless, Limits(instructions=10_000)).error == "OperationalError: interrupted"


@pytest.mark.parametrize(("statement", "rows"), ORDINARY.items(), ids=[text[:40] for text in ORDINARY])
def test_ordinary_functions_and_statements_are_allowed(statement: str, rows: int, database: Path):
    outcome = run_sql(database, statement)
    assert outcome.error is None
    assert len(outcome.rows or []) == rows


def test_every_shipped_statement_gives_the_rows_of_an_open_connection(database: Path):
    statements = [pair.answer for pairs in workshop_pairs().values() for pair in pairs]
    with closing(sqlite3.connect(database)) as connection:
        expected = [connection.execute(statement).fetchall() for statement in statements]
    assert [run_sql(database, statement).rows for statement in statements] == expected
    assert {run_sql(database, pair.answer).error is None for pair in practice_pairs()} == {False}  # other databases


def test_values_come_back_exactly(database: Path):
    values = [2**63 - 1, -(2**63), 0.1, -0.0, 5e-324, math.inf, -math.inf, None, b"\x00\xff", b"", "", "a\x00b"]
    values += ["\U0001f600 \u202e\u0301", '{"blob": "eA=="}', "\ud7ff\ue000", "\r\n\t\x1b"]
    path = database.with_name("values.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table t(a)")
        connection.executemany("insert into t values(?)", [(value,) for value in values])
        connection.commit()
    rows = run_sql(path, "select a from t order by rowid").rows
    path.unlink()
    assert repr(rows) == repr([(value,) for value in values])


def test_text_that_is_no_utf8_is_an_error(database: Path):
    assert "decode" in (run_sql(database, "select cast(x'fffe' as text)").error or "")
    assert run_sql(database, "select x'fffe'").rows == [(b"\xff\xfe",)]


def test_rows_may_hold_just_as_many_bytes_as_the_limit(database: Path):
    statement = "select 'abc',x'0102',null from part limit 2"
    assert run_sql(database, statement, Limits(size=26)).error is None
    assert run_sql(database, statement, Limits(size=25)).error == "more than 25 bytes of results"
    assert "bytes of SQL" in (run_sql(database, "select '" + "é" * (LONGEST_TEXT // 2) + "'").error or "")


@pytest.mark.parametrize(
    "wrong",
    [{"instructions": 0}, {"rows": -1}, {"size": 0}, {"seconds": 0}, {"seconds": math.nan}, {"seconds": math.inf}],
    ids=str,
)
def test_limits_that_are_none_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=f"Limits: {next(iter(wrong))} is"):
        Limits(**wrong)
