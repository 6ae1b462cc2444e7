"""Views, rows and entity frames for suites of historical reads, and how they ask an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from asof.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    Source,
    Window,
)
from asof.dtypes import DType, Int64
from asof.offline.protocol import OfflineStore
from asof.selection import FeatureOut, ViewRead
from asof.sql.query import PointInTime
from asof.timing import SECOND, Micros

NOON: Micros = 1_600_000_000 * SECOND
US = pa.timestamp("us", "UTC")
USER = Entity("user")
KEY = Field("user", Int64)
EVENTS = FileSource("events.parquet", name="events", timestamp_field="happened")
CORRECTED = FileSource("events.parquet", name="events", timestamp_field="happened", created_timestamp_column="written")


def view(
    *fields: Field,
    source: Source = EVENTS,
    aggregations: Sequence[Aggregation] = (),
    entities: Sequence[Entity] = (USER,),
    **options: object,
) -> FeatureView:
    """A view with its types known."""
    others: dict[str, Any] = options
    made = FeatureView(
        "view",
        source=source,
        entities=list(entities),
        schema=[*([KEY] if entities else []), *fields],
        aggregations=list(aggregations),
        **others,
    )
    types = {field.name: field.dtype for field in fields}
    typed = [each.with_dtype(each.output_dtype(types.get(each.column, Int64))) for each in aggregations]
    return made.resolved(schema=made.schema, aggregations=typed)


def reads(*views: FeatureView) -> tuple[ViewRead, ...]:
    """All features of the views, under their own names."""
    return tuple(
        ViewRead(each, each.join_keys, tuple(FeatureOut(f.name, f.name, f.dtype, f.default) for f in each.features))
        for each in views
    )


def events(
    *rows: tuple[object, ...], columns: Sequence[str] = ("user", "happened", "value"), dtype: DType = Int64
) -> pa.Table:
    """Rows of (user, event time, value, …); times in microseconds."""
    kinds = {"user": pa.int64(), "happened": US, "written": US, "value": dtype.arrow()}
    return pa.table({name: pa.array([row[at] for row in rows], kinds[name]) for at, name in enumerate(columns)})


def spine(*rows: tuple[object, Micros | None]) -> pa.Table:
    return pa.table(
        {
            "user": pa.array([user for user, _ in rows], pa.int64()),
            "event_timestamp": pa.array([t for _, t in rows], US),
            "row": pa.array(range(len(rows)), pa.int32()),
        }
    )


class Reads:
    """How the tests of an engine ask it; a subclass gives the fixture `engine`."""

    def ask(
        self, engine: OfflineStore, of: FeatureView, rows: pa.Table, frame: pa.Table, **options: object
    ) -> list[tuple[object, ...]]:
        """The features of each spine row."""
        others: dict[str, Any] = options
        result = engine.run(PointInTime(reads(of), **others), {of.source.name: rows}, spine=frame)
        answer = result.reader().read_all()
        assert answer.select(frame.schema.names).equals(frame)
        return [tuple(row.values()) for row in answer.drop_columns(frame.schema.names).to_pylist()]

    def counts(
        self, engine: OfflineStore, window: Window, times: Sequence[Micros], *moments: Micros, **options: object
    ) -> list[int]:
        others: dict[str, Any] = options
        counted = view(aggregations=[Aggregation("", "count", name="n", window=window)], **others)
        rows = events(*((1, time, 0) for time in times))
        found: list[Any] = self.ask(engine, counted, rows, spine(*((1, t) for t in moments)))
        return [row[0] for row in found]
