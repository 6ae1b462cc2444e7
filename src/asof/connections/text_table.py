"""Full-text search by SQLite (FTS5) over texts in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from asof.errors import StorageError


class TextTable:
    """Rows of texts, found by their terms. It may be used by one thread at a time.

    Args:
        columns: name → how much a match in this column counts.
        rows: the texts of each row in the order of the columns; a row is known by its position.

    Raises:
        StorageError: this Python's SQLite has no full-text search.

    Source: https://www.sqlite.org/fts5.html
    """

    def __init__(self, columns: Mapping[str, float], rows: Iterable[Sequence[str]]) -> None:
        self._weights = ", ".join(map(str, columns.values()))
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        names = ", ".join(columns)
        try:
            self._db.execute(
                f"CREATE VIRTUAL TABLE texts USING fts5({names}, content='', prefix='1 2 3', "
                "tokenize='unicode61 remove_diacritics 2')"
            )
        except sqlite3.OperationalError as error:
            self._db.close()
            raise StorageError(
                f"the SQLite of this Python ({sqlite3.sqlite_version}) has no full-text search (FTS5): {error}",
                hint="use a Python whose SQLite has it, as those of python.org, Debian and conda do",
            ) from error
        self._db.executemany(
            f"INSERT INTO texts (rowid, {names}) VALUES (?{', ?' * len(columns)})",
            ((position, *row) for position, row in enumerate(rows)),
        )
        self._db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(texts, row)")

    def close(self) -> None:
        self._db.close()

    def terms(self) -> list[str]:
        """All terms of all rows, in lower case and without accents."""
        return [term for (term,) in self._db.execute("SELECT term FROM terms")]

    def has_beginning(self, term: str) -> bool:
        """Whether some row has a term that begins so."""
        found = self._db.execute("SELECT 1 FROM texts WHERE texts MATCH ? LIMIT 1", (_beginning(term),))
        return found.fetchone() is not None

    def find(self, terms: Sequence[Sequence[str]], *, limit: int | None) -> list[tuple[int, float]]:
        """Positions of rows and how well they match, best first; a lower number is a better match.

        Args:
            terms: a row must have one term of each group, or one that begins so.
            limit: at most so many rows; all where None.
        """
        query = " AND ".join(f"({' OR '.join(map(_beginning, group))})" for group in terms)
        rows = self._db.execute(
            f"SELECT rowid, bm25(texts, {self._weights}) AS score FROM texts WHERE texts MATCH ? "
            "ORDER BY score, rowid LIMIT ?",
            (query, -1 if limit is None else limit),
        )
        return rows.fetchall()


def _beginning(term: str) -> str:
    """The term as FTS5 reads it: all that begins so."""
    return '"' + term.replace('"', '""').replace("\0", " ") + '"*'
