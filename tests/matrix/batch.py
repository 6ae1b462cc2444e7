"""All values that fit as batch rows of one wide source: files of each format, and the labels of entity frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from asof import FeatureStore, FeatureView, Field, FileSource
from asof.types import Int64
from tests.matrix.cases import CASES, NOON, REFUSED, US, Case
from tests.matrix.runs import AT, Found, ways_out
from tests.matrix.wide import THING

FIT = {name: case for name, case in CASES.items() if case.expected is not REFUSED}
Cells = Mapping[str, Case]


def in_delta(folder: Path, rows: pa.Table) -> None:
    write_deltalake(str(folder), rows)


def in_parquet(folder: Path, rows: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(rows, folder / "rows.parquet")


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {"delta": in_delta, "parquet": in_parquet}


def holds(write: Callable[[Path, pa.Table], None], folder: Path) -> dict[str, Case]:
    """The cases whose physical types a format has."""
    held = {}
    for place, (name, case) in enumerate(FIT.items()):
        if write is in_delta and ("ns" in str(case.kind)):
            continue  # its writer rounds nanoseconds towards 0
        try:
            write(folder / f"try{place}", pa.table({"value": pa.array([case.given, None], case.kind)}))
        except Exception:
            continue
        held[name] = case
    return held


def read_in_one_row(store: FeatureStore, kind: str, folder: Path, cases: Cells) -> Found:
    """The cases as columns of one row, with a row of nulls, by each way out of both sides."""
    columns = {name: f"c{place}" for place, name in enumerate(cases)}
    rows = pa.table({
        "user": pa.array([1, 2], pa.int64()), "at": pa.array([NOON, NOON], US),
        **{columns[name]: pa.array([case.given, None], case.kind) for name, case in cases.items()},
    })  # fmt: skip
    WRITERS[kind](folder / kind, rows)
    path = str(folder / kind) if kind == "delta" else str(folder / kind / "*.parquet")
    source = FileSource(path, name=f"{kind}_rows", timestamp_field="at", file_format=kind)
    fields = [Field("user", Int64), *(Field(columns[name], case.dtype) for name, case in cases.items())]
    view = FeatureView(f"{kind}_wide", entities=[THING], source=source, schema=fields)
    store.apply([THING, source, view])
    store.materialize(feature_views=[view.name])
    frame = pa.table({"user": pa.array([1, 2], pa.int64()), "event_timestamp": pa.array([AT, AT], US)})
    found: Found = {}
    for side, result in (
        ("trained", store.get_historical_features(frame, [view])),
        ("served", store.get_online_features([view], {"user": [1, 2]})),
    ):
        found |= ways_out(side, result, columns)
        table = result.to_arrow()
        assert [table[column][1].as_py() for column in columns.values()] == [None] * len(columns)
    return found


FRAMES: dict[str, tuple[Callable[[pa.Table], Any], Callable[[Any], Any]]] = {
    "arrow": (lambda table: table, lambda result: result.to_arrow()),
    "pandas": (lambda table: table.to_pandas(), lambda result: result.to_df()),
    "polars": (pl.from_arrow, lambda result: result.to_polars()),
}
"""Form of an entity frame → how it is made, and how the result of the same form is had."""


def labels_of(store: FeatureStore, feature: str, form: str) -> tuple[Any, Any]:
    """Every physical type as a label column of an entity frame: the frame, and the same columns of the result."""
    make, take = FRAMES[form]
    rows = {"user": pa.array([1, 2], pa.int64()), "event_timestamp": pa.array([AT, AT], US)}
    for place, case in enumerate(CASES.values()):
        if form == "pandas" and pa.types.is_map(case.kind):
            continue  # a list of pairs of several types, of which no column can be made again
        column = pa.array([case.given, None], case.kind)
        try:
            make(pa.table({"label": column}))
        except (OverflowError, ValueError):
            continue  # this form has no such value
        rows[f"label{place}"] = column
    frame = make(pa.table(rows))
    result = take(store.get_historical_features(frame, [feature]))
    names = [name for name in rows if name.startswith("label")]
    if form == "arrow":
        return frame.select(names), result.select(names)
    return frame[names], result[names]


def assert_labels_came_back(store: FeatureStore, feature: str, form: str) -> None:
    """Each label column is as it was given, in type and value."""
    given, returned = labels_of(store, feature, form)
    if form == "pandas":
        pd.testing.assert_frame_equal(given, returned)
        return
    given, returned = (each if form == "arrow" else each.to_arrow() for each in (given, returned))
    assert given.num_columns > 100
    assert given.schema == returned.schema
    for name in given.column_names:
        # As text, in which NaN is NaN and times beyond Python's calendar are times.
        assert given[name].to_string() == returned[name].to_string(), name


def assert_sql_frame_has_its_columns(store: FeatureStore, source: str, feature: str, cases: Cells) -> None:
    """The columns of a source come back as the labels of a SQL frame."""
    labels = ", ".join(f"c{place} AS label{place}" for place in range(len(cases)))
    sql = f'SELECT "user", "at" AS event_timestamp, {labels} FROM {source} WHERE "user" = 1'
    table = store.get_historical_features(sql, [feature]).to_arrow()
    for place, (name, case) in enumerate(cases.items()):
        found = table[f"label{place}"].combine_chunks()
        if isinstance(case.kind, pa.UuidType):  # DuckDB returns them as text
            assert found.to_pylist() == [case.expected]
            continue
        assert found.to_string() == case.array.cast(found.type).to_string(), name


__all__ = [
    "FIT",
    "FRAMES",
    "WRITERS",
    "assert_labels_came_back",
    "assert_sql_frame_has_its_columns",
    "holds",
    "read_in_one_row",
]
