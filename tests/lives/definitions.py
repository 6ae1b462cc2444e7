"""Random definitions: three sources of each kind, and views of every kind over them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from asof.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    PostgresSource,
    PushSource,
    Session,
    Sliding,
    Source,
)
from asof.timing import DAY, Micros, moment
from asof.types import Timestamp
from tests.lives.rows import KEYS, NOT_IN_TABLES, VALUES, Columns

FUNCTIONS: list[tuple[str, str]] = [
    *((column, function) for column in ("n", "x", "d") for function in ("sum", "mean", "min", "max", "count")),
    *(("x", function) for function in ("std", "var")),
    *((column, function) for column in ("n", "s", "x", "m", "c", "r", "b", "d") for function in ("first", "last")),
    *((column, "last_n") for column in ("n", "s", "r", "d")),
    *((column, "count_distinct") for column in ("n", "s", "x")),
    *((column, function) for column in ("s", "c", "m") for function in ("min", "max")), ("", "count"), ("n / 2", "max"),
]  # fmt: skip
"""(column, function) of aggregations; the empty column counts rows."""
WHERE = {"s = 'x' OR n > 0": ["s", "n"], "b": ["b"], "x < 1": ["x"]}
"""Condition → the columns that it reads, left to right."""


@dataclass
class Drawn:
    """What was drawn.

    Args:
        of: the columns of pushes and messages.
        batch: the source of batch rows.
        of_batch: its columns.
        read: view → the columns that it reads, in its order.
        begins: from when on pushes count, where what was before them is loaded from the batch source.
    """

    of: Columns
    of_batch: Columns
    pushed: PushSource
    sent: LogSource
    batch: Source
    has_created: dict[str, bool]
    begins: Micros | None
    objects: list[Any] = field(default_factory=list)
    read: dict[str, list[str]] = field(default_factory=dict)

    @property
    def views(self) -> list[FeatureView]:
        return [each for each in self.objects if isinstance(each, FeatureView)]


def draw(rng: random.Random, *, batch_path: str, table: str, now: Micros, in_postgres: bool) -> Drawn:
    """Definitions.

    Args:
        in_postgres: whether Postgres keeps the archives.
        batch_path: the folder of Parquet files of batch rows.
        table: the Postgres table of batch rows, where there is one.
    """
    keys = rng.sample(list(KEYS), rng.choice((1, 2, 2, 3)))
    fewer = [name for name in VALUES if name not in NOT_IN_TABLES]
    of, of_batch = (
        Columns(keys, fewer if in_postgres else list(VALUES)),
        Columns(keys, fewer if table else list(VALUES)),
    )
    has_created = {name: rng.random() < 0.5 for name in ("pushed", "sent", "batch")}
    created: dict[str, Any] = {
        name: {"created_timestamp_column": "written"} if has_created[name] else {} for name in has_created
    }
    mortal = {name: {"delete_when": "s = 'gone'"} if rng.random() < 0.4 else {} for name in has_created}
    schema = [*of.fields, Field("at", Timestamp), Field("written", Timestamp)]
    begins = now - 90 * DAY if rng.random() < 0.5 else None
    before: dict[str, Any] = {}
    if begins is not None:
        history = FileSource(f"{batch_path}-before/*.parquet", name="before", timestamp_field="at", **created["pushed"])
        before = {"batch_source": history, "stream_from": moment(begins)}
    pushed = PushSource(
        "pushed", schema, "at", allowed_lateness="10m", **created["pushed"], **mortal["pushed"], **before
    )
    sent = LogSource(
        "sent", schema=schema, timestamp_field="at", allowed_lateness="10m", **created["sent"], **mortal["sent"]
    )
    lag: dict[str, Any] = {"lag": "1h"} if has_created["batch"] else {}
    batch: Source
    if table:
        batch = PostgresSource("batch", table=table, timestamp_field="at", **created["batch"], **mortal["batch"], **lag)
    else:
        batch = FileSource(
            f"{batch_path}/*.parquet", name="batch", timestamp_field="at", **created["batch"], **mortal["batch"], **lag
        )
    drawn = Drawn(of, of_batch, pushed, sent, batch, has_created, begins)
    thing, wide = Entity("thing", keys), Entity("wide", keys[:1])
    drawn.objects = [thing, wide, pushed, sent, batch]
    for source in (pushed, sent, batch):
        entities = [thing] if source is batch or rng.random() < 0.7 else [wide]
        columns = (of_batch if source is batch else of).values
        drawn.objects.append(_latest(rng, f"{source.name}_newest", source, entities, drawn, columns))
        drawn.objects.append(_aggregated(rng, f"{source.name}_sums", source, [rng.choice((thing, thing, wide))], drawn))
    return drawn


def redraw(rng: random.Random, name: str, drawn: Drawn) -> FeatureView:
    """A view with other aggregations, in place of the one of that name."""
    place, view = next((place, each) for place, each in enumerate(drawn.objects) if each.name == name)
    drawn.read.pop(name)
    drawn.objects[place] = _aggregated(rng, name, view.source, list(view.entities), drawn)
    return drawn.objects[place]


def _latest(
    rng: random.Random, name: str, source: Source, entities: list[Entity], drawn: Drawn, columns: list[str]
) -> FeatureView:
    columns = rng.sample(columns, len(columns))
    schema = [Field(key, KEYS[key][0]) for key in entities[0].join_keys] + [
        Field(each, VALUES[each][0]) for each in columns
    ]
    drawn.read[name] = columns
    return FeatureView(
        name, entities=entities, source=source, schema=schema,
        ttl=rng.choice((None, "6h", "30m", "90d")), delay=rng.choice(("0s", "0s", "1m")),
    )  # fmt: skip


def _aggregated(rng: random.Random, name: str, source: Source, entities: list[Entity], drawn: Drawn) -> FeatureView:
    windows = [None, Sliding("1h"), Sliding("2d"), Session("30m"), Sliding("90s"), Session("1s")]
    aggregations = []
    for place, (column, function) in enumerate(rng.sample(FUNCTIONS, 10)):
        where = rng.choice([None, None, *WHERE])
        n = {"n": rng.choice((1, 3))} if function == "last_n" else {}
        aggregations.append(
            Aggregation(column, function, name=f"f{place}", window=rng.choice(windows), where=where, **n)
        )
        read = drawn.read.setdefault(name, [])
        for each in (*(["n"] if column == "n / 2" else [column] if column else []), *WHERE.get(where or "", ())):
            if each not in read:
                read.append(each)
    return FeatureView(
        name, entities=entities, source=source, aggregations=aggregations,
        boundary=rng.choice(("inclusive", "inclusive", "exclusive")), delay=rng.choice(("0s", "0s", "1m")),
    )  # fmt: skip
