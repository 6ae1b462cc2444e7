"""What a read needs of a source: the columns, times and keys that it surely asks for, so that no more is fetched."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import Source
from asof.offline.protocol import Spine
from asof.offline.pruning import ROUNDED_US, Bounds
from asof.sources.protocol import Files, ScanRequest
from asof.sql.arrival import PUSHED_AT
from asof.sql.partitions import HISTORY
from asof.sql.query import PointInTime, RowsOfKeys, ViewRows, columns_of, lenient_columns_of, reach_of
from asof.timing import Micros

_FEW_KEYS = 10_000
"""Maximum number of keys to filter a source by value."""


def need_of(
    query: PointInTime | ViewRows,
    source: Source,
    names: Sequence[str],
    spine: Spine | None,
    *,
    users: Collection[str] = (),
    times: tuple[Micros, Micros] | None = None,
    wanted: Any = None,
) -> ScanRequest:
    """What to fetch from a source of batches.

    Args:
        names: the source's columns.
        users: those that an SQL entity frame may read.
        times: the entity frame's first and last time, where known.
        wanted: the keys that `RowsOfKeys` reads.
    """
    touched = columns_of(query, source.name)
    if isinstance(spine, str):
        # An SQL entity frame may read any row of the source.
        own = set(users)
        return ScanRequest([name for name in names if name in touched or name in own or source.is_log])
    names = [name for name in names if name in touched or source.is_log]
    if isinstance(query, ViewRows):
        return ScanRequest(names, query.start, query.end, _few_wanted(query, source, wanted), news=query.news)
    if spine is None:
        # Without an entity frame there is a row per event in the range, and each looks back from its time.
        first, last = query.start, query.end
    else:
        first, last = times or (None, None)
    reach = reach_of(query, source.name)
    start = first - reach if first is not None and reach is not None else None
    keys = _few_keys(query, source, spine) if isinstance(spine, pa.Table) else None
    return ScanRequest(names, start, last, keys, lenient=lenient_columns_of(query, source.name))


def archived_bounds(query: PointInTime | ViewRows, source: Source, files: Files) -> dict[str, Bounds]:
    """By when the archived rows that count were archived, and up to which offset, where the query says so."""
    if not isinstance(query, PointInTime) or not source.is_log:
        return {}
    found: dict[str, Bounds] = {}
    stamped = PUSHED_AT in columns_of_files(files) and not query.by_offsets
    # Rows with a created time, or a stamp, may have been written down before they were archived.
    if not isinstance(query.known_at, bool | None) and not source.created_timestamp_column and not stamped:
        found["ingested_at"] = (None, query.known_at + ROUNDED_US)
    seen = (query.seen or {}).get(source.name)
    if seen is not None and HISTORY in seen:
        found["offset"] = (None, max(seen.values()))
    return found


def times_of(spine: Spine | None, time: str) -> tuple[Micros, Micros] | None:
    """The first and last time of an entity frame in memory, in microseconds."""
    if not isinstance(spine, pa.Table) or time not in spine.column_names or not spine.num_rows:
        return None
    kind = spine.schema.field(time).type
    if not pa.types.is_timestamp(kind):
        return None
    ends = pc.min_max(spine[time])
    per_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]
    first, last = (ends[name].cast(pa.int64()).as_py() for name in ("min", "max"))
    if first is None:
        return None
    return first * 1_000_000 // per_second, last * 1_000_000 // per_second


def columns_of_files(files: Files) -> list[str]:
    """The columns of files of a known schema, and then those that their folders give."""
    own = files.schema.names if files.schema is not None else []
    return [*own, *(files.partitions.column_names if files.partitions is not None else [])]


def _few_wanted(query: ViewRows, source: Source, wanted: Any) -> dict[str, pa.Array] | None:
    """The values of the source's key columns for the keys that `RowsOfKeys` reads, if they are few."""
    if not isinstance(query, RowsOfKeys) or not isinstance(wanted, pa.Table) or wanted.num_rows > _FEW_KEYS:
        return None
    keys = {source.raw(key): wanted[f"k{index}"].unique() for index, key in enumerate(query.view.join_keys)}
    return keys or None


def _few_keys(query: PointInTime | ViewRows, source: Source, spine: pa.Table) -> dict[str, pa.Array] | None:
    """The values of the source's key columns in the spine; None if they are many, or not all known."""
    found: dict[str, list[pa.Array]] = {}
    reads = [read for read in query.reads if read.view.source.name == source.name]
    for read in reads:
        for column, key in zip(read.view.join_keys, read.keys, strict=True):
            values = spine.column(key).drop_null().unique()
            if isinstance(values, pa.DictionaryArray):
                values = values.dictionary_decode()
            found.setdefault(source.raw(column), []).append(values)
    keys: dict[str, pa.Array] = {}
    for column, parts in found.items():
        # A view with other keys needs all rows for the key columns that it does not have.
        if len(parts) == len(reads) and len({part.type for part in parts}) == 1:
            values = pa.chunked_array(parts).unique()
            if len(values) <= _FEW_KEYS:
                keys[column] = values
    return keys or None


__all__ = ["archived_bounds", "columns_of_files", "need_of", "times_of"]
