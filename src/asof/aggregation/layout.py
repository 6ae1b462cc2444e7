"""The layout of an aggregated view's packed rows: their records, and the words of each record.

A word is a little-endian 64-bit integer; floats are stored as their bits. A row is a header, records of equal width,
and a pool of objects (strings, sets, lists) that records refer to:

    word   0        1         2            3 …            …                …
         +--------+---------+------------+--------------+----------------+---------------------+---------+
  header | first  | horizon | pool words | records      | last time that | partition, offset   | padding |
         |        |         |            | per family   | was dropped,   | per partition that  | with 0  |
         |        |         |            |              | per gap        | the row has seen    |         |
         +--------+---------+------------+--------------+----------------+---------------------+---------+
 records | family 0: record, record, …   | family 1: …  | …              | fresh: record, …              |
         +-------------------------------+--------------+----------------+-------------------------------+
    pool | MessagePack object | object | …   each starts on a word                              | padding |
         +---------------------------------------------------------------------------------------+---------+

    first     format version (8 bits) | flags (8) | header's size in records (16) | partitions (16) | mark (15)
    horizon   events up to it are merged into the families' records; later ones are fresh records, one per event time

Header, records and pool are each padded to a multiple of the record width: the bytes of many rows, joined, are one
matrix with a record per line, so that numpy handles all rows of a batch at once. A record is

    word   0       1                    states_at …
         +-------+--------------------+----------------+----------------+---
         | start | last event time    | words of       | words of       | …
         |       | (if any sessions)  | component 0    | component 1    |
         +-------+--------------------+----------------+----------------+---

and all families have records of the same width, even if a family does not use a component. For example, a view with a
`count` over an hour and a `mean(amount)` over a session has three families (tile, session, fresh) and three components
(count of rows; sum and count of amount), so a record has five words: start, last event time, count, sum, count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from asof.aggregation.states import (
    Count,
    DecimalSum,
    Distinct,
    Extreme,
    FloatSum,
    IntegerSum,
    Moments,
    ObjectExtreme,
    Pick,
    StateComponent,
    Tail,
)
from asof.aggregation.words import fits_word
from asof.definitions.windows import ORDERED, Aggregation, Session, Sliding
from asof.dtypes import DType
from asof.errors import DefinitionError
from asof.timing import HOUR, Micros

FORMAT, ARRIVAL_FORMAT = 1, 2
"""Versions of the row format: the second is of rows that order first and last values by the rows' arrival.

In the first it is offset and partition: of batch sources, and of rows that earlier versions of Asof wrote. Rows without
such values have the first, whoever writes them."""

TILE, EVER, SESSION, FRESH = "tile", "ever", "session", "fresh"


@dataclass(frozen=True)
class RecordFamily:
    """Records of one kind in a row, ascending by start.

    Args:
        kind: `tile` (one record per hop with events), `ever` (one), `session` (one per interval), `fresh` (one per
            event time later than the row's horizon: not yet folded into the others).
        step: the hop of tiles, or the gap of sessions.
        keep: the longest window served from these tiles.
    """

    kind: str
    step: Micros = 0
    keep: Micros = 0


@dataclass(frozen=True)
class AggregateOutput:
    """One aggregate of the view: its family, and the state components that its value is computed from."""

    aggregation: Aggregation
    dtype: DType
    column: DType | None
    family: int
    parts: tuple[StateComponent, ...]

    @property
    def name(self) -> str:
        return self.aggregation.name


class RowLayout:
    """The packed form of one view's rows; immutable, and the same for equal definitions.

    Attributes:
        inputs: the distinct (column, where) texts, in order; the caller evaluates them for each batch of events.
        format: version of the rows.
        fingerprint: hex; equal for layouts that can read each other's rows.
        mark: 15 bits of the fingerprint, stored in each row so that no other layout reads it by mistake.
        families: see `RecordFamily`; the last is always `fresh`.
        width: words per record, as drawn above.
    """

    def __init__(
        self, aggregations: tuple[Aggregation, ...], columns: Mapping[str, DType], *,
        exclusive: bool, allowed_lateness: Micros, margin: Micros, created: bool, arrival: bool,
    ) -> None:  # fmt: skip
        self.format = ARRIVAL_FORMAT if arrival else FORMAT
        self._definition = aggregations, tuple(sorted(columns.items())), exclusive, allowed_lateness, margin, created
        self.exclusive, self.allowed_lateness, self.created = exclusive, allowed_lateness, created
        # An exclusive read at t must not see events at t, so events at the newest time are not merged yet.
        self.margin = max(margin, 1 if exclusive else 0)
        self.inputs: tuple[tuple[str, str], ...] = tuple(dict.fromkeys((a.column, a.where) for a in aggregations))
        self.dtypes: tuple[DType | None, ...] = tuple(columns[c] if c else None for c, _ in self.inputs)
        self.families = _families(aggregations)
        self.tiles = tuple(i for i, f in enumerate(self.families) if f.kind in (TILE, EVER))
        self.sessions = tuple(i for i, f in enumerate(self.families) if f.kind == SESSION)
        self.fresh = len(self.families) - 1
        self.states_at = 2 if self.sessions else 1

        parts: dict[tuple[Any, ...], StateComponent] = {}
        sources = {pair: number for number, pair in enumerate(self.inputs)}
        order_words = 3 + created + arrival
        needs = [_needs(a, sources[a.column, a.where], columns.get(a.column), order_words) for a in aggregations]
        for key, part in (pair for need in needs for pair in need):
            parts.setdefault(key, part)
        self.width = self.states_at
        for part in parts.values():
            part.at = self.width
            self.width += part.width
        for part in parts.values():
            part.bind(parts)
        self.parts = tuple(parts.values())
        self.outputs = tuple(
            AggregateOutput(
                a, a.dtype or a.output_dtype(columns.get(a.column)), columns.get(a.column), self._family(a),
                tuple(parts[key] for key, _ in need),
            )
            for a, need in zip(aggregations, needs)
        )  # fmt: skip
        self.by_name = {output.name: output for output in self.outputs}
        self.object_words = tuple(part.at + part.width - 1 for part in self.parts if part.holds_object)
        self.unused_objects = tuple(self._unused_objects(family) for family in range(len(self.families)))
        self.object_families = np.array(
            [len(unused) < len(self.object_words) for unused in self.unused_objects], dtype=np.int64
        )
        self.empty = np.zeros(self.width, dtype=np.int64)
        for part in self.parts:
            self.empty[part.at : part.at + part.width] = part.empty
        # Positions in the header: counts per family after the three fixed words, then the dropped times, then offsets.
        self.counts_at = 3
        self.dropped_at = self.counts_at + len(self.families)
        self.offsets_at = self.dropped_at + len(self.sessions)
        self.header = np.arange(self.offsets_at)
        self.fingerprint = self._fingerprint(tuple(parts))
        self.mark = int(self.fingerprint[:4], 16) & 0x7FFF

    @classmethod
    def of(
        cls, aggregations: Sequence[Aggregation], columns: Mapping[str, DType], *, boundary: str = "inclusive",
        allowed_lateness: Micros = HOUR, margin: Micros = 0, created: bool = True, arrival: bool = False,
    ) -> RowLayout:  # fmt: skip
        """The layout for these aggregations.

        Args:
            columns: the type of each column (or expression) of the aggregations.
            boundary: the view's, `inclusive` or `exclusive`.
            allowed_lateness: how late an event may be and still be joined to its session, in microseconds.
            margin: how far a reader's clock may be behind the newest event and still read the row; events in that span
                stay unmerged.
            created: whether the source has a created time, which is then part of the order of rows.
            arrival: whether rows are ordered by their arrival in a log, not by offset and partition alone.

        Raises:
            DefinitionError: a function does not work on its column's type.
        """
        types, exclusive = tuple(sorted(columns.items())), boundary == "exclusive"
        ordered = arrival and any(each.function in ORDERED for each in aggregations)
        return _layout(tuple(aggregations), types, exclusive, allowed_lateness, margin, created, ordered)

    @property
    def keeps_arrival(self) -> bool:
        """Whether rows are ordered by their arrival in a log."""
        return self.format == ARRIVAL_FORMAT

    @property
    def earlier(self) -> RowLayout:
        """The layout of the same rows in the earlier format."""
        return _layout(*self._definition, False)

    def _family(self, aggregation: Aggregation) -> int:
        kind, step = _kind(aggregation)
        return next(i for i, f in enumerate(self.families) if f.kind == kind and f.step == step)

    def _unused_objects(self, family: int) -> tuple[int, ...]:
        """The object words that no aggregate reads from this family: they stay empty, to keep rows small."""
        if family == self.fresh:
            return ()
        used = {part.at for output in self.outputs if output.family == family for part in output.parts}
        return tuple(part.at + part.width - 1 for part in self.parts if part.holds_object and part.at not in used)

    def _fingerprint(self, keys: tuple[tuple[Any, ...], ...]) -> str:
        content = [
            self.format, self.exclusive, self.allowed_lateness, self.margin, self.created, self.inputs,
            [str(dtype) for dtype in self.dtypes], [(f.kind, f.step, f.keep) for f in self.families], keys,
            self.unused_objects,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


@lru_cache(maxsize=512)
def _layout(
    aggregations: tuple[Aggregation, ...], columns: tuple[tuple[str, DType], ...], exclusive: bool,
    allowed_lateness: Micros, margin: Micros, created: bool, arrival: bool,
) -> RowLayout:  # fmt: skip
    return RowLayout(
        aggregations, dict(columns), exclusive=exclusive, allowed_lateness=allowed_lateness, margin=margin,
        created=created, arrival=arrival,
    )  # fmt: skip


def _kind(aggregation: Aggregation) -> tuple[str, Micros]:
    window = aggregation.window
    if isinstance(window, Sliding):
        return TILE, window.hop
    if isinstance(window, Session):
        return SESSION, window.gap
    return EVER, 0


def _families(aggregations: Sequence[Aggregation]) -> tuple[RecordFamily, ...]:
    keep: dict[tuple[str, Micros], Micros] = {}
    for aggregation in aggregations:
        kind = _kind(aggregation)
        length = aggregation.window.length if isinstance(aggregation.window, Sliding) else 0
        keep[kind] = max(keep.get(kind, 0), length)
    order = (TILE, EVER, SESSION)
    found = sorted((order.index(kind), step, length) for (kind, step), length in keep.items())
    return (*(RecordFamily(order[kind], step, length) for kind, step, length in found), RecordFamily(FRESH, 1))


def _needs(
    aggregation: Aggregation, source: int, column: DType | None, order_words: int
) -> list[tuple[tuple[Any, ...], StateComponent]]:
    """The state components of an aggregate, each with the key under which aggregates share it."""
    function = aggregation.function
    count = ("count", source), Count(source)
    if function == "count":
        return [count]
    assert column is not None
    if function in ("sum", "mean", "std", "var") and not (column.is_numeric or column.name == "Bool"):
        raise _no_meaning(aggregation, column)
    if function in ("min", "max", "count_distinct") and column.name in ("Array", "Embedding"):
        raise _no_meaning(aggregation, column)
    if function in ("sum", "mean"):
        kind = FloatSum if column.is_float else DecimalSum if column.name == "Decimal" else IntegerSum
        return [((kind.kind, source), kind(source)), count]
    if function in ("std", "var"):
        return [(("moments", source), Moments(source)), count]
    if function in ("min", "max"):
        greatest = function == "max"
        if not fits_word(column):
            return [((function, source), ObjectExtreme(source, greatest=greatest))]
        return [((function, source), Extreme(source, greatest=greatest, floats=column.is_float)), count]
    if function in ("first", "last"):
        pick = Pick(source, last=function == "last", order_words=order_words, objects=not fits_word(column))
        return [((function, source), pick)]
    if function == "count_distinct":
        return [((function, source), Distinct(source))]
    return [((function, source, aggregation.n), Tail(source, n=aggregation.n))]


def _no_meaning(aggregation: Aggregation, column: DType) -> DefinitionError:
    return DefinitionError(
        f"aggregation {aggregation.name!r}: {aggregation.function} does not work on {column}",
        hint="choose another function, or CAST the column",
    )
