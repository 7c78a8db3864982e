"""Exact lookup in a relational database with a B-tree index (paper, sections 4 and 10): sqlite3, held in memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from mome.facts.fact import Fact
from mome.replication.methods.method import ABSTAINS, Holder

TABLES = """
CREATE TABLE facts (id TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE wordings (question TEXT PRIMARY KEY, fact TEXT NOT NULL REFERENCES facts (id)) WITHOUT ROWID;
CREATE INDEX by_fact ON wordings (fact);
"""
LOOKUP = "SELECT answer FROM wordings JOIN facts ON facts.id = wordings.fact WHERE question = ?"


def normalised(question: str) -> str:
    """The question in lower case, without punctuation and extra white space."""
    return " ".join(re.findall(r"\w+", question.casefold()))


class SqlLookup(Holder):
    """The answer of the fact that has exactly this question, after `normalised`; anything else is not found.

    The question and first `wordings` - 1 phrasings of each fact are keys; where two facts share one, the first keeps
    it. A wording that was not stored misses by construction, and what is not stored is never answered.
    """

    def __init__(self, name: str = "sql", wordings: int = 1) -> None:
        super().__init__()
        self.name, self.wordings = name, wordings
        self.database = self._empty()

    def fit(self, facts: Sequence[Fact]) -> None:
        """Fill a new database; raises ValueError as `Holder.take`."""
        self.take(facts)
        self.database.close()
        self.database = self._empty()
        self._store(facts)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The stored answers, `ABSTAINS` for questions that are no key."""
        rows = (self.database.execute(LOOKUP, (normalised(question),)).fetchone() for question in questions)
        return [row[0] if row else ABSTAINS for row in rows]

    def add(self, fact: Fact) -> None:
        """Insert one fact more."""
        self.insert(fact)
        self._store([fact])

    def update(self, fact: Fact) -> None:
        """Delete the fact of the same id and insert this one."""
        self.exchange(fact)
        self._drop(fact.id)
        self._store([fact])

    def delete(self, identity: str) -> None:
        """Delete the fact's rows."""
        self.remove(identity)
        self._drop(identity)

    def bytes(self) -> int:
        """The size of the database's pages."""
        (count,), (size,) = (self.database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
        return int(count * size)

    def _empty(self) -> sqlite3.Connection:
        database = sqlite3.connect(":memory:")
        database.executescript(TABLES)
        return database

    def _store(self, facts: Sequence[Fact]) -> None:
        keys = [(normalised(text), fact.id) for fact in facts for text in fact.wordings(self.wordings)]
        with self.database:
            self.database.executemany("INSERT INTO facts VALUES (?, ?)", [(fact.id, fact.answer) for fact in facts])
            self.database.executemany("INSERT OR IGNORE INTO wordings VALUES (?, ?)", keys)

    def _drop(self, identity: str) -> None:
        with self.database:
            self.database.execute("DELETE FROM wordings WHERE fact = ?", (identity,))
            self.database.execute("DELETE FROM facts WHERE id = ?", (identity,))
