"""A store whose history DuckDB computes, and whose rows a Spark Connect server's executors take: for tests of builds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql.connect.session import SparkSession

from asof.errors import AsofError
from asof.offline.protocol import BatchFunction
from asof.offline.spark.executors import Executors, rows_of

PARTS = 4


def open_session(url: str) -> SparkSession:
    session = SparkSession.builder.remote(url).create()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session


class RowsOnExecutors:
    """An offline store whose results functions can take on executors."""

    def __init__(self, inner: Any, session: SparkSession) -> None:
        self.inner, self.session, self.executors = inner, session, Executors(session)
        self.taken: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, query: Any, inputs: Any, **options: Any) -> ResultOnExecutors:
        return ResultOnExecutors(self, self.inner.run(query, inputs, **options))

    def sql(self, text: str, inputs: Any) -> ResultOnExecutors:
        return ResultOnExecutors(self, self.inner.sql(text, inputs))


class ResultOnExecutors:
    def __init__(self, store: RowsOnExecutors, inner: Any) -> None:
        self.store, self.inner = store, inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def refusal(self) -> AsofError | None:
        return self.store.executors.refusal()

    def mapped(
        self, function: BatchFunction, schema: pa.Schema, *, keys: Sequence[str] = (), order: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        self.store.taken.append(type(function).__name__)
        table = self.inner.reader().read_all()
        if not table.num_rows:
            return
        frame = self.store.session.createDataFrame(table).repartition(PARTS)
        executors = self.store.executors
        mapped = executors.mapped(frame, function, schema, keys=keys, order=order, given=table.schema)
        yield from rows_of(mapped)
