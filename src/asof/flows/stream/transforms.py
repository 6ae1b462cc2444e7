"""The transform of a source's messages, ready to run: SQL in the engine, or the applied function."""

from __future__ import annotations

import pyarrow as pa

from asof.decoding import Transform
from asof.definitions import LogSource
from asof.definitions.identity import what_differs
from asof.definitions.transforms import FORM, KEEP, MESSAGE
from asof.errors import DefinitionError, FunctionChanged, NotFound, nearest
from asof.flows.stores import Stores
from asof.sql.row_select import RowSelect


def transform_of(stores: Stores, source: LogSource) -> Transform | None:
    """The source's transform from messages to rows; None if it has none.

    Raises:
        DefinitionError: its SQL is more than expressions over one message, or does not return the source's schema.
        NotFound: the repository does not define the function.
        FunctionChanged: the repository's function differs from the applied one.
    """
    made = source.transform
    if made is None:
        return None
    if made.sql:
        return _evaluated(stores, source)
    own = made if made.function is not None else stores.function_of(source)
    if own is None or own.function is None:
        raise NotFound(
            f"source {source.name!r}: its {made.name} is applied, but not in the repository",
            hint="restore its file, or run `asof apply`", where=source.where,
        )  # fmt: skip
    if differences := own.differences(made):
        raise FunctionChanged(
            f"source {source.name!r}: its {made.name} in the repository differs from the applied one: "
            f"{what_differs(differences)}",
            hint="run `asof apply`, or update the files here", where=source.where,
        )  # fmt: skip
    return own.function


def select_of(stores: Stores, source: LogSource) -> RowSelect | None:
    """The SQL of a source's transform, as the engine reads it; None if it has no transform, or a function.

    Raises:
        DefinitionError: it is more than expressions over one message.
    """
    if source.transform is None or not source.transform.sql:
        return None
    try:
        return stores.offline.read_select(
            source.transform.sql, table=MESSAGE, columns=[field.name for field in source.message_fields]
        )
    except ValueError as error:
        raise DefinitionError(
            f"source {source.name!r}: transform: {error}",
            hint=FORM, where=source.where,
        ) from error  # fmt: skip


def _evaluated(stores: Stores, source: LogSource) -> Transform:
    """The evaluation of a source's SQL. Each process checks it again: a registry may have SQL of no plan."""
    found = select_of(stores, source)
    assert found is not None
    columns = dict(found.columns)
    _check_columns(source, columns)
    if found.where:
        if KEEP in columns:
            raise DefinitionError(
                f"source {source.name!r}: transform returns column {KEEP!r} next to WHERE, which needs that name",
                hint="give the column another name", where=source.where,
            )  # fmt: skip
        # The expressions must not be evaluated, and fail, for rows that the condition excludes.
        columns = {name: f"CASE WHEN ({found.where}) THEN {sql} END" for name, sql in columns.items()}
        columns[KEEP] = f"coalesce(({found.where}), false)"

    def run(table: pa.Table) -> pa.Table:
        return stores.offline.evaluate(table, columns)

    return run


def _check_columns(source: LogSource, columns: dict[str, str]) -> None:
    """Check that the SQL returns exactly the columns of the source's schema.

    Raises:
        DefinitionError: a column is missing or extra.
    """
    names = [field.name for field in source.schema]
    problem = f"source {source.name!r}: transform"
    for name in columns:
        if name not in names:
            raise DefinitionError(
                f"{problem} returns column {name!r}, which is not in its schema",
                hint=nearest(name, names) or f"the schema has {names}", where=source.where,
            )  # fmt: skip
    for name in names:
        if name not in columns:
            raise DefinitionError(
                f"{problem} does not return column {name!r} of its schema",
                hint=f"write … AS {name}",
                where=source.where,
            )


__all__ = ["transform_of"]
