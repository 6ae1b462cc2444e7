"""One session on a Spark Connect server: statements, views and rows, for one read at a time."""

from __future__ import annotations

import atexit
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql.types import StructType

from asof.connections.spark.client import (
    DataFrame,
    DefaultChannelBuilder,
    DefaultPolicy,
    LocalRelation,
    RetryPolicyState,
    SparkSession,
)
from asof.connections.spark.errors import DRIVER_ERRORS

MESSAGE_BYTES = 128 * 2**20
"""The server's own limit of a message."""

_MARK = "spark.asof.session"
"""A setting that only this session has: a server that has lost it was restarted, or has closed the session."""


class ServerSession:
    """A session, with the settings of its reads.

    Args:
        remote: `sc://host:port/;parameter=value…`.
        token: sent as a bearer token, over TLS; empty for none.
        settings: of the session.
        retry_s: about how long a call is repeated while the server does not respond.
    """

    def __init__(self, remote: str, *, token: str, settings: Mapping[str, str], retry_s: float) -> None:
        channel = DefaultChannelBuilder(
            remote,
            channelOptions=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                # A connection that a firewall has dropped is noticed.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
        )
        if token:
            channel.set("token", token)
        self.spark = SparkSession(connection=channel)
        self.spark.client.set_retry_policies([_patience(retry_s)])
        self._forget_exit()
        self._mark = uuid.uuid4().hex
        self._settings = {**settings, _MARK: self._mark}
        self._views: list[str] = []
        self._set()

    def _forget_exit(self) -> None:
        # At the process' end the client would ask the server to forget models, and wait for one that is gone.
        client: Any = self.spark.client
        for name in ("_on_exit", "_cleanup_ml_cache"):  # from 4.2 on; before
            if hook := getattr(client, name, None):
                atexit.unregister(hook)

    def _set(self) -> None:
        # In one call; a server may not know one of them, or not let it be changed.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a server warns of are settings of ours
            self.spark.conf._set_all(self._settings, silent=True)

    @property
    def version(self) -> str:
        """The server's version of Spark, or the one that it takes after."""
        return str(self.spark.version)

    @property
    def is_alive(self) -> bool:
        """Whether the server still has this session, with its settings and views."""
        if self.spark.is_stopped:
            return False
        try:
            return bool(self.spark.conf.get(_MARK, "") == self._mark)
        except DRIVER_ERRORS:
            return False

    def frame(self, select: str) -> DataFrame:
        """A SELECT; nothing runs but its analysis, when that is asked for."""
        return self.spark.sql(select)

    def files(self, paths: Sequence[str], schema: StructType) -> DataFrame:
        """The rows of Parquet files, with nulls in columns that a file lacks."""
        return self.spark.read.schema(schema).parquet(*paths)

    def local(self, rows: pa.Table, schema: StructType) -> DataFrame:
        """Rows that travel with the plan, in one message."""
        return DataFrame(LocalRelation(rows if rows.num_rows else None, schema=schema.json()), self.spark)

    def view(self, name: str, frame: DataFrame) -> None:
        """Register a temporary view; it is gone after `drop_views`."""
        frame.createOrReplaceTempView(name)
        # Once, and after those that it reads.
        self._views = [*(each for each in self._views if each != name), name]

    @property
    def views(self) -> int:
        """How many views there are."""
        return len(self._views)

    def drop_views(self, *, after: int = 0) -> None:
        """Remove all views, or those that were made after so many."""
        while len(self._views) > after:
            self.spark.catalog.dropTempView(self._views.pop())

    def execute(self, statement: str) -> None:
        """Run a command, such as CREATE TEMPORARY VIEW."""
        self.spark.sql(statement)

    def fetch(self, frame: DataFrame | str) -> pa.Table:
        """All rows of a result."""
        return (self.frame(frame) if isinstance(frame, str) else frame).toArrow()

    def stream(self, frame: DataFrame | str) -> Iterator[pa.RecordBatch]:
        """The rows of a result in the server's batches, as they come."""
        result = self.frame(frame) if isinstance(frame, str) else frame
        client = self.spark.client
        plan = result._plan.to_proto(client)
        for each in client.to_table_as_iterator(plan, {}):
            if isinstance(each, pa.Table):
                yield from each.to_batches()

    def interrupt(self) -> None:
        """End what runs in this session."""
        self.spark.interruptAll()

    def close(self) -> None:
        """Release the session on the server, as far as that still responds."""
        self.spark.client.set_retry_policies([_patience(0.0)])
        self.spark.stop()


def _patience(retry_s: float) -> Any:
    """Retries while the server does not respond: pauses from 0.1 s on, each twice the one before, at most 2 s."""
    pauses, total, pause = 0, 0.0, 0.1
    while total < retry_s:
        total, pause, pauses = total + pause, min(2.0, pause * 2), pauses + 1
    policy = _Patience(max_retries=pauses, initial_backoff=100, backoff_multiplier=2.0, max_backoff=2000, jitter=0)
    # The client of 4.0 does not have it, and heeds no such delay.
    policy.max_server_retry_delay = int(retry_s * 1000)
    return policy


class _Patience(DefaultPolicy):  # type: ignore[misc]  # without types
    """Ends with the server's error, and without the client's warning that retries are at an end."""

    def to_state(self) -> _Attempts:
        return _Attempts(self)


class _Attempts(RetryPolicyState):  # type: ignore[misc]  # without types
    def next_attempt(self, exception: BaseException | None = None) -> int | None:
        """The pause before the next attempt in ms. The client of 4.0 does not say which exception it is about."""
        given = (exception,) if exception is not None else ()
        pause: int | None = super().next_attempt(*given)
        if pause is None and exception is not None:
            raise exception
        return pause


__all__ = ["MESSAGE_BYTES", "ServerSession"]
