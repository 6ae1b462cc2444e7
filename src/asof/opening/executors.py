"""The online store as executors open it: by the configuration as written, with the variables of their environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import pyarrow as pa

from asof.config import StoreConfig
from asof.config.documents import LocatedValue
from asof.config.loading import online_store_in
from asof.errors import AsofError, StorageError
from asof.expressions.dialects import DUCKDB
from asof.flows.stores import Lazy, Stores
from asof.offline.protocol import OfflineStore
from asof.opening.products import EMBEDDED, opened, product
from asof.timing import Micros


@dataclass(frozen=True)
class ExecutorStores:
    """Opens the online store of a configuration on an executor; picklable. See `RemoteStores`.

    Args:
        made: the store's class, so that executors need no metadata of installed packages.
        written: the sections, with variables not yet expanded.
        root: what relative paths in them are relative to, there as here.
    """

    project: str
    made: Any
    written: LocatedValue
    root: Path

    @classmethod
    def of(cls, config: StoreConfig) -> ExecutorStores | None:
        """None where the store is a file of this machine, or the configuration was made in code."""
        if config.written is None or ("online", config.online_store.type) in EMBEDDED:
            return None
        made = product("online", config.online_store.type, where=config.online_store.where)
        return cls(config.project, made, config.written, config.path)

    def open(self, *, now: Micros, max_row_bytes: int) -> Stores:
        """See `RemoteStores.open`."""
        try:
            part = online_store_in(self.written, self.root, os.environ)
        except AsofError as error:
            error.message = f"on an executor: {error.message}"
            raise
        extra = {"clock": lambda: now} if self.made.takes_clock else {}
        return Stores(
            self.project,
            registry=Lazy(_not_there),
            offline=cast(OfflineStore, _Evaluation()),
            online=Lazy(lambda: opened("online", part, self.root, made=self.made, **extra)),
            log=Lazy(_not_there),
            readers={},
            clock=lambda: now,
            max_row_bytes=max_row_bytes,
        )


def _not_there() -> NoReturn:
    raise StorageError("a bulk build asked for more than its online store", hint="report this as a bug")


class _Evaluation:
    """What a build needs of an offline store: expressions over its rows."""

    batch_dialect = DUCKDB

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """See `Engine.evaluate`."""
        from asof.connections.duckdb import Evaluator  # few views have expressions

        evaluator: Any = Evaluator(threads=1)
        try:
            return evaluator.evaluate(batch, expressions)
        finally:
            evaluator.close()

    def close(self) -> None:
        """Nothing is open."""


__all__ = ["ExecutorStores"]
