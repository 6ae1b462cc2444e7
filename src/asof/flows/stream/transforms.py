"""The transform of a source's messages, ready to run: SQL in the engine, or the applied function."""

from __future__ import annotations

import pyarrow as pa

from asof.decoding import Transform
from asof.definitions import LogSource
from asof.definitions.transforms import KEEP, statement
from asof.errors import NotFound, RequestError
from asof.flows.stores import Parts


def transform_of(parts: Parts, source: LogSource) -> Transform | None:
    """The source's transform from messages to rows; None if it has none.

    Raises:
        NotFound: the repository does not define the function.
        RequestError: the repository's function differs from the applied one.
    """
    made = source.transform
    if made is None:
        return None
    if made.sql:
        return _evaluated(parts, source)
    own = made if made.function is not None else parts.function_of(source)
    if own is None or own.function is None:
        raise NotFound(
            f"source {source.name!r}: its {made.name} is applied, but not in the repository",
            hint="restore its file, or run `asof apply`", where=source.where,
        )  # fmt: skip
    if own.fingerprint != made.fingerprint:
        raise RequestError(
            f"source {source.name!r}: its {made.name} in the repository differs from the applied one",
            hint="run `asof apply`",
            where=source.where,
        )  # fmt: skip
    return own.function


def _evaluated(parts: Parts, source: LogSource) -> Transform:
    assert source.transform is not None
    found = statement(source.transform.sql, [field.name for field in source.message_fields])
    columns = dict(found.columns)
    if found.where:
        # The expressions must not be evaluated, and fail, for rows that the condition excludes.
        columns = {name: f"CASE WHEN ({found.where}) THEN {sql} END" for name, sql in columns.items()}
        columns[KEEP] = f"coalesce(({found.where}), false)"

    def run(table: pa.Table) -> pa.Table:
        return parts.offline.evaluate(table, columns)

    return run


__all__ = ["transform_of"]
