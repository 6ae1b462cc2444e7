"""Search over the catalog's entries: by terms and their beginnings, and by names that are nearly what was typed."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from asof.catalog.entries import KINDS, CatalogEntry
from asof.catalog.trigrams import TrigramTable
from asof.connections.text_table import TextTable

if TYPE_CHECKING:
    from asof.catalog.health import Health

_COLUMNS = {"name": 10.0, "description": 3.0, "tags": 4.0, "owner": 2.0, "names": 2.0, "expressions": 1.0}
"""How much a term counts in each column: a name says more of a thing than what it is computed of."""

_TERM = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Between the terms of a camelCase name."""

MOST_TERMS = 16
"""Of a longer text only the first terms are searched for."""


class CatalogSearch:
    """The entries of the catalog in memory, to be searched by one thread at a time.

    Args:
        entries: what can be found, of one snapshot; of equally good matches of one rank the earlier one comes first.

    Raises:
        StorageError: this Python's SQLite has no full-text search.
    """

    def __init__(self, entries: Sequence[CatalogEntry]) -> None:
        self._entries = entries
        self._names = [each.name.lower() for each in entries]
        # A feature is found by the beginning of its own name too.
        self._sorted_names = sorted(
            (name, position) for position, whole in enumerate(self._names) for name in {whole, whole.rpartition(":")[2]}
        )
        self._near_names = TrigramTable(self._names)
        # Position → what comes first among entries that match equally well; see `rank_by`.
        self._ranks: Sequence[int] = [0] * len(entries)
        self._texts = TextTable(_COLUMNS, map(_searched, entries))
        self._terms = self._texts.terms()
        self._near_terms = TrigramTable(self._terms)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        self._texts.close()

    def rank_by(self, rank: Callable[[CatalogEntry], int]) -> None:
        """From now on, of entries that match equally well the one with the lowest rank comes first."""
        self._ranks = [rank(each) for each in self._entries]

    def find(
        self, text: str = "", *, limit: int = 20, keeps: Callable[[CatalogEntry], bool] | None = None
    ) -> list[CatalogEntry]:
        """The best matches: names that begin so or with a typo or two, entries with all terms, names that are like it.

        Args:
            text: a name, or terms or their beginnings in any order; empty for all entries.
            keeps: a filter.
        """
        found: list[CatalogEntry] = []
        seen: set[int] = set()
        for position in self._matches(text.strip().lower(), None if keeps or limit > _FEW else _FEW):
            if position in seen:
                continue
            seen.add(position)
            if keeps is None or keeps(self._entries[position]):
                found.append(self._entries[position])
                if len(found) == limit:
                    break
        return found

    def _matches(self, text: str, limit: int | None) -> Iterator[int]:
        """Positions of entries, best first; some may repeat."""
        if not text:
            kinds = {kind: number for number, kind in enumerate(KINDS)}
            yield from sorted(
                range(len(self._entries)), key=lambda at: (kinds[self._entries[at].kind], self._ranks[at], at)
            )
            return
        yield from self._beginning_with(text)
        yield from self._near(text, distance=_tolerance(text))
        if terms := _TERM.findall(text)[:MOST_TERMS]:
            found = self._texts.find([self._meant_by(term) for term in terms], limit=limit)
            yield from self._alike_by_rank(found)
        yield from self._near(text, distance=2 * _tolerance(text))

    def _near(self, text: str, *, distance: int) -> Iterator[int]:
        """Entries with a name that is like the text, the nearest first."""
        near = self._near_names.near(text, distance=distance)
        yield from (position for _, _, position in sorted((far, self._ranks[at], at) for far, at in near))

    def _alike_by_rank(self, found: Sequence[tuple[int, float]]) -> Iterator[int]:
        """Matches by their terms, best first: scores are alike that differ by a tenth of the best one.

        Args:
            found: position and score; a lower score is better, and all are negative.
        """
        alike = max(-found[0][1] / 10, 1e-9) if found else 1.0
        ordered = sorted((int(score / alike), self._ranks[at], place, at) for place, (at, score) in enumerate(found))
        yield from (at for _, _, _, at in ordered)

    def _beginning_with(self, text: str) -> Iterator[int]:
        """Entries whose name begins with the text: the name itself first, then by rank, then the shortest names."""
        first = bisect_left(self._sorted_names, (text,))
        last = bisect_left(self._sorted_names, (text + _AFTER_ALL,))
        names = self._sorted_names[first:last]
        ordered = sorted((name != text, self._ranks[at], len(name), at) for name, at in names)
        yield from (at for _, _, _, at in ordered)

    def _meant_by(self, term: str) -> list[str]:
        """The term, and terms that are like it where nothing begins so."""
        if self._texts.has_beginning(term):
            return [term]
        near = self._near_terms.near(term, distance=_tolerance(term))
        return [term, *(self._terms[position] for _, position in near)]


_AFTER_ALL = chr(sys.maxunicode)
"""The last of all code points."""

_FEW = 100
"""How many matches by terms are read where no filter asks for more."""


def _tolerance(text: str) -> int:
    """How many typos a text may have: none in three characters, where every term is like every other."""
    return 0 if len(text) <= 3 else 1 if len(text) <= 6 else 2


def _searched(entry: CatalogEntry) -> tuple[str, ...]:
    """The texts of an entry, one per column."""
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
    stale: bool = False,
    unused: bool = False,
    health: Health | None = None,
) -> Callable[[CatalogEntry], bool] | None:
    """A filter for `CatalogSearch.find`, or None where nothing is asked for.

    Args:
        kind: one of `KINDS`.
        tag: the name of a tag, or `name=value`.
        stale: only what is older than it should be.
        unused: only what was neither served nor saved with a training set.
        health: what `stale` and `unused` are looked up in.

    Raises:
        ValueError: there is no such kind, or the health is missing.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"no kind {kind!r}: expected one of {', '.join(KINDS)}")
    name, equals, value = (tag or "").partition("=")
    if not any((kind, entity, tag, owner, source, stale, unused)):
        return None
    if (stale or unused) and health is None:
        raise ValueError("stale and unused are looked up in the health, and none is given")

    def keeps(entry: CatalogEntry) -> bool:
        tags = dict(entry.tags)
        return (
            (kind is None or entry.kind == kind)
            and (entity is None or entity in entry.entities)
            and (source is None or source in entry.sources)
            and (owner is None or entry.owner == owner)
            and (tag is None or (name in tags and (not equals or tags[name] == value)))
            and (not stale or (health is not None and health.is_stale(entry)))
            and (not unused or (health is not None and health.is_unused(entry)))
        )

    return keeps
