"""The transform of a source's messages, ready to be run: its SQL in the engine, or its function as it was applied."""

from __future__ import annotations

import pyarrow as pa

from asof.decoding import Transform
from asof.definitions import LogSource
from asof.definitions.transforms import KEEP, statement
from asof.errors import NotFound, RequestError
from asof.flows.stores import Parts


def transform_of(parts: Parts, source: LogSource) -> Transform | None:
    """What makes rows of a source's messages; None where a message's columns are the row's.

    Raises:
        NotFound: this process does not have its function.
        RequestError: it has another one.
    """
    made = source.transform
    if made is None:
        return None
    if made.sql:
        return _evaluated(parts, source)
    own = made if made.function is not None else parts.function_of(source)
    if own is None or own.function is None:
        raise NotFound(
            f"source {source.name!r}: its {made.name} is applied, but the repository does not define it any more",
            hint="run `asof apply`, or bring its file back", where=source.where,
        )  # fmt: skip
    if own.fingerprint != made.fingerprint:
        raise RequestError(
            f"source {source.name!r}: its {made.name} is not the one that was applied", hint="run `asof apply`",
            where=source.where,
        )  # fmt: skip
    return own.function


def _evaluated(parts: Parts, source: LogSource) -> Transform:
    assert source.transform is not None
    found = statement(source.transform.sql, [field.name for field in source.message_fields])
    columns = dict(found.columns)
    if found.where:
        # Where the condition does not hold, the expressions must not fail either.
        columns = {name: f"CASE WHEN ({found.where}) THEN {sql} END" for name, sql in columns.items()}
        columns[KEEP] = f"coalesce(({found.where}), false)"

    def run(table: pa.Table) -> pa.Table:
        return parts.offline.evaluate(table, columns)

    return run


__all__ = ["transform_of"]
