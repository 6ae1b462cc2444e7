"""Search over the catalog's entries: by words and their beginnings, and by names that are nearly what was typed."""

from __future__ import annotations

import re
import sqlite3
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from asof.catalog.entries import KINDS, CatalogEntry
from asof.catalog.trigrams import TrigramTable
from asof.errors import StorageError

_COLUMNS = ("name", "description", "tags", "owner", "names", "expressions")
_WEIGHTS = (10.0, 3.0, 4.0, 2.0, 2.0, 1.0)
"""How much a word counts in each column: a name says more of a thing than what it is computed of."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Between the words of a camelCase name."""

MOST_WORDS = 16
"""Of a longer text only the first words are searched for."""


class CatalogSearch:
    """The entries of the catalog in memory, to be searched; built for one snapshot and may be used by one thread at a time.

    Args:
        entries: what can be found; of equally good matches the earlier one comes first.

    Raises:
        StorageError: this Python's SQLite has no full-text search.
    """

    def __init__(self, entries: Sequence[CatalogEntry]) -> None:
        self._entries = entries
        self._names = [each.name.lower() for each in entries]
        # A feature is found by the beginning of its own name too.
        self._sorted_names = sorted(
            (name, place) for place, whole in enumerate(self._names) for name in {whole, whole.rpartition(":")[2]}
        )
        self._near_names = TrigramTable(self._names)
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._db.execute(
                f"CREATE VIRTUAL TABLE entries USING fts5({', '.join(_COLUMNS)}, content='', prefix='1 2 3', "
                "tokenize='unicode61 remove_diacritics 2')"
            )
        except sqlite3.OperationalError as error:
            self._db.close()
            raise StorageError(
                f"the SQLite of this Python ({sqlite3.sqlite_version}) has no full-text search (FTS5): {error}",
                hint="use a Python whose SQLite has it, as those of python.org, Debian and conda do",
            ) from error
        self._db.executemany(
            f"INSERT INTO entries (rowid, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)})",
            ((place, *_indexed(each)) for place, each in enumerate(entries)),
        )
        self._db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(entries, row)")
        self._terms = [term for (term,) in self._db.execute("SELECT term FROM terms")]
        self._near_terms = TrigramTable(self._terms)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        self._db.close()

    def find(
        self, text: str = "", *, limit: int = 20, keeps: Callable[[CatalogEntry], bool] | None = None
    ) -> list[CatalogEntry]:
        """The best matches: the name itself, names with a typo or two, entries with all words, names that are like it.

        Args:
            text: a name, words or the beginnings of words, in any order; empty for all entries.
            keeps: a filter.
        """
        found: list[CatalogEntry] = []
        seen: set[int] = set()
        for place in self._matches(text.strip().lower(), keeps is not None or limit > _FEW):
            if place in seen:
                continue
            seen.add(place)
            if keeps is None or keeps(self._entries[place]):
                found.append(self._entries[place])
                if len(found) == limit:
                    break
        return found

    def _matches(self, text: str, all_of_them: bool) -> Iterator[int]:
        """Places of entries, best first; some may repeat."""
        if not text:
            yield from range(len(self._entries))
            return
        yield from self._beginning_with(text)
        near = self._near_names.near(text, distance=_tolerance(text))
        yield from (place for _, place in near)
        yield from self._with_words(text, all_of_them)
        yield from (place for _, place in self._near_names.near(text, distance=2 * _tolerance(text)))

    def _beginning_with(self, text: str) -> Iterator[int]:
        """Entries whose name begins with the text, the shortest names first: the first is the name itself."""
        first = bisect_left(self._sorted_names, (text,))
        last = bisect_left(self._sorted_names, (text + _AFTER_ALL,))
        yield from (place for _, place in sorted((len(name), place) for name, place in self._sorted_names[first:last]))

    def _with_words(self, text: str, all_of_them: bool) -> Iterator[int]:
        words = _WORD.findall(_HUMP.sub(" ", text))[:MOST_WORDS]
        if not words:
            return
        asked = " AND ".join(f"({self._meant_by(word)})" for word in words)
        weights = ", ".join(map(str, _WEIGHTS))
        rows = self._db.execute(
            f"SELECT rowid FROM entries WHERE entries MATCH ? ORDER BY bm25(entries, {weights}), rowid LIMIT ?",
            (asked, -1 if all_of_them else _FEW),
        )
        yield from (place for (place,) in rows)

    def _meant_by(self, word: str) -> str:
        """A word as FTS5 looks for it: its beginning, or words that are like it where nothing begins so."""
        beginning = f'"{word}"*'
        if self._db.execute("SELECT 1 FROM entries WHERE entries MATCH ? LIMIT 1", (beginning,)).fetchone():
            return beginning
        near = self._near_terms.near(word, distance=_tolerance(word))
        return " OR ".join([beginning, *(f'"{self._terms[place]}"' for _, place in near)])


_AFTER_ALL = chr(sys.maxunicode)
"""The last of all code points."""

_FEW = 100
"""How many matches by words are read where no filter asks for more."""


def _tolerance(text: str) -> int:
    """How many typos a text may have: none in three letters, where every word is like every other."""
    return 0 if len(text) <= 3 else 1 if len(text) <= 6 else 2


def _indexed(entry: CatalogEntry) -> tuple[str, ...]:
    """The texts of the index's columns."""
    names = chain(entry.entities, entry.sources, entry.columns, (entry.kind, entry.type))
    tags = chain.from_iterable(entry.tags)
    return (
        _HUMP.sub(" ", entry.name), entry.description, " ".join(tags), entry.owner,
        " ".join(_HUMP.sub(" ", name) for name in names), " ".join(entry.expressions),
    )  # fmt: skip


def filter_of(
    *,
    kind: str | None = None,
    entity: str | None = None,
    tag: str | None = None,
    owner: str | None = None,
    source: str | None = None,
) -> Callable[[CatalogEntry], bool] | None:
    """A filter for `CatalogSearch.find`, or None where nothing is asked for.

    Args:
        kind: one of `KINDS`.
        tag: the name of a tag, or `name=value`.

    Raises:
        ValueError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"no kind {kind!r}: expected one of {', '.join(KINDS)}")
    name, equals, value = (tag or "").partition("=")
    if not any((kind, entity, tag, owner, source)):
        return None

    def keeps(entry: CatalogEntry) -> bool:
        tags = dict(entry.tags)
        return (
            (kind is None or entry.kind == kind)
            and (entity is None or entity in entry.entities)
            and (source is None or source in entry.sources)
            and (owner is None or entry.owner == owner)
            and (tag is None or (name in tags and (not equals or tags[name] == value)))
        )

    return keeps
