"""Makes workshop.sql, pairs.jsonl and practice.jsonl from the TOML files: `python data/text_to_sql/compile.py`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy

HERE = Path(__file__).resolve().parent
SEED = 1
TUNED_WORDINGS = 3  # the last wording of a shape is kept for testing
TUNED_VALUES = 8  # of ten; the last two test values that nobody was shown
FIRST, LAST = date(2014, 1, 1), date(2023, 12, 31)

SCHEMA = """create table customer(code text primary key, name text, town text, tier text, since text);
create table technician(badge text primary key, name text, grade text, hired text);
create table instrument(serial text primary key, customer text references customer, kind text, maker text, \
built integer);
create table job(number text primary key, instrument text references instrument, \
technician text references technician, opened text, closed text, status text, fault text, charge real);
create table part(code text primary key, name text, bin text, price real, stock integer);
create table fitting(job text references job, part text references part, pieces integer, primary key(job, part));
"""
NAMES = [
    "Abel",
    "Bauer",
    "Conti",
    "Duval",
    "Engel",
    "Foster",
    "Garcia",
    "Hansen",
    "Ivanov",
    "Jensen",
    "Keller",
    "Lopez",
]
INITIALS = "ABCDEFGHIJKL"


def rows_of(values: dict[str, Any]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Each table's name and rows, random by `SEED`."""
    draw = numpy.random.default_rng(SEED)
    listed = {name: [row[-1] if name == "part" else row[0] for row in kind["rows"]] for name, kind in values.items()}

    def one(of: Sequence[Any]) -> Any:
        """The later, the likelier, up to three times: so that counts differ."""
        weights = numpy.linspace(1, 3, len(of))
        return of[int(draw.choice(len(of), p=weights / weights.sum()))]

    def day(start: date = FIRST) -> date:
        return start + timedelta(days=int(draw.integers((LAST - start).days + 1)))

    people = [f"{initial}. {name}" for name in NAMES for initial in INITIALS]
    customers = [
        (f"C{number:03d}", name, one(listed["town"]), one("BBBSSG"), day().isoformat())
        for number, name in enumerate(draw.permutation(people).tolist(), start=1)
    ]
    badges = [f"T{number}" for number in range(1, len(listed["technician"]) + 1)]
    technicians = [
        (badge, name, one(["apprentice", "journeyman", "master"]), day(date(1995, 1, 1)).isoformat())
        for badge, name in zip(badges, listed["technician"], strict=True)
    ]
    owners = [customer[0] for customer in customers if draw.random() < 0.75]
    instruments = [
        (f"{maker[0]}X-{number}", one(owners), one(listed["kind"]), maker, int(draw.integers(1880, 1990)))
        for number, maker in ((number, one(listed["maker"])) for number in range(2001, 2401))
    ]
    worn = [instrument[0] for instrument in instruments if draw.random() < 0.7]
    jobs = []
    for number in range(1, 1501):
        opened, status = day(), one("QWQWTDDDDX")
        closed = opened + timedelta(days=int(draw.integers(1, 90)))
        ended = closed.isoformat() if status in "DX" else None
        charge = round(float(draw.gamma(3, 40)), 2)
        head = (f"J{number:04d}", one(worn), one(badges), opened.isoformat())
        jobs.append((*head, ended, status, one(listed["fault"]), charge))
    yield "customer", customers
    yield "technician", technicians
    yield "instrument", instruments
    yield "job", jobs
    parts = [
        (code, name, f"{one('KLMN')}{int(draw.integers(1, 40)):02d}", round(float(draw.gamma(2, 8)), 2), int(stock))
        for (code, name), stock in zip(values["part"]["rows"], draw.permutation(200), strict=False)
    ]
    yield "part", parts
    fitted = {(one(jobs)[0], one(parts)[0]): one([4, 3, 2, 2, 1, 1, 1]) for _ in range(1_200)}
    yield "fitting", [(*key, pieces) for key, pieces in sorted(fitted.items())]


def literal(value: Any) -> str:
    """A value in SQL."""
    return "null" if value is None else repr(value)


def database_text(values: dict[str, Any]) -> str:
    """The database as SQL: the schema, then one insert for each table."""
    parts = [SCHEMA]
    for table, rows in rows_of(values):
        lines = ",\n".join(f"({','.join(literal(value) for value in row)})" for row in rows)
        parts.append(f"insert into {table} values\n{lines};\n")
    return "begin;\n" + "".join(parts) + "commit;\n"


def pair(
    name: str, number: int, shape: dict[str, Any], fields: dict[str, str], split: str, source: str
) -> dict[str, Any]:
    """One record: the wordings of a shape and its SQL with the fields put in."""
    texts = [wording.format(**fields) for wording in shape["wordings"]]
    question, *phrasings = texts[:TUNED_WORDINGS]
    record = {"id": f"{name}/{number}", "question": question, "answer": shape["sql"].format(**fields)}
    return record | {
        "phrasings": phrasings,
        "held_out": texts[TUNED_WORDINGS:],
        "relation": f"{split}/{name}",
        "source": source,
    }


def workshop_pairs(book: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pairs of the workshop; `relation` is split/shape, the split one of tuned, values, shapes."""
    for name, shape in book["shapes"].items():
        kind = book["values"][shape["values"]]
        for number, row in enumerate(kind["rows"]):
            fields = dict(zip(kind["fields"], row, strict=True))
            split = "shapes" if shape.get("unseen") else "tuned" if number < TUNED_VALUES else "values"
            yield pair(name, number, shape, fields, split, "made up for this project")


def practice_pairs(book: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pairs of the other databases."""
    for database in book["databases"]:
        for name, shape in book["shapes"].items():
            for number, value in enumerate(database["values"]):
                fields = {**database, "value": value}
                yield pair(f"{database['thing']}_{name}", number, shape, fields, "practice", "made up for this project")


def write_lines(name: str, records: Iterator[dict[str, Any]]) -> None:
    """Write records as JSON, one a line."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    (HERE / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Write the three files beside this script."""
    shapes = tomllib.loads((HERE / "shapes.toml").read_text("utf-8"))
    practice = tomllib.loads((HERE / "practice.toml").read_text("utf-8"))
    (HERE / "workshop.sql").write_text(database_text(shapes["values"]), encoding="utf-8")
    write_lines("pairs.jsonl", workshop_pairs(shapes))
    write_lines("practice.jsonl", practice_pairs(practice))


if __name__ == "__main__":
    main()
