"""Schemas of a registry, asked for in the background: one that does not respond costs other sources no time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning

from asof.decoding import SchemaRegistryUnavailable, Schemas, WriterSchema

WAIT_S = 0.5
"""How long a worker waits for a schema at once. Later its source pauses, and looks again after the pause."""


class BackgroundSchema:
    """Schemas by ID, for one worker: a call waits for a short time, and goes on in a thread.

    Args:
        schemas: may block for long.
        name: of the source, for messages.
    """

    def __init__(self, schemas: Schemas, name: str) -> None:
        self._schemas = schemas
        self._name = name
        self._running: dict[int, Future[WriterSchema | None]] = {}

    def __call__(self, schema_id: int) -> WriterSchema | None:
        """The schema of this ID, else None.

        Raises:
            BrokenSchema: it cannot be used.
            SchemaRegistryUnavailable: the registry is unavailable, or has not responded yet.
        """
        found = self._running.get(schema_id)
        if found is None:
            found = self._running[schema_id] = Future()
            # A daemon: a process that ends does not wait for a registry.
            threading.Thread(target=self._ask, args=(schema_id, found), name="schema", daemon=True).start()
        try:
            schema = found.result(WAIT_S)
        except StillRunning as error:
            if found.done():  # it is the registry's own error
                del self._running[schema_id]
                raise
            raise SchemaRegistryUnavailable(
                f"source {self._name!r}: the schema registry has not responded yet about schema {schema_id}",
                hint="check that it runs; the source goes on once it responds",
            ) from error
        except BaseException:
            self._running.pop(schema_id, None)
            raise
        del self._running[schema_id]
        return schema

    def _ask(self, schema_id: int, found: Future[WriterSchema | None]) -> None:
        try:
            found.set_result(self._schemas(schema_id))
        except BaseException as error:  # raised where it is waited for
            found.set_exception(error)


__all__ = ["BackgroundSchema"]
