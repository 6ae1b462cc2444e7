"""The source columns that a feature of a view is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asof.definitions import FeatureView, LogSource
from asof.expressions import parse
from asof.sql.row_select import RowSelect


@dataclass(frozen=True)
class FeatureColumns:
    """The source columns of a feature by what they are read for; a column may be in several of them.

    They are named as the source has them: before `field_mapping`, and as columns of the message where a transform
    computes the rows. A column in none of them cannot change the feature's value, as long as its rows are valid.

    Args:
        value: those that the value is computed from.
        where: those that decide which rows count: of the aggregation's `where=`, and of the transform's WHERE.
        keys: those of the join keys.
        times: those of the event time and the created time.
        deletes: those of `delete_when=`.
        event_id: those of the event ID, by which repeated events are dropped.
    """

    source: str
    value: tuple[str, ...]
    where: tuple[str, ...]
    keys: tuple[str, ...]
    times: tuple[str, ...]
    deletes: tuple[str, ...]
    event_id: tuple[str, ...]

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns of value and condition, each once."""
        return _each_once((*self.value, *self.where))

    @property
    def all(self) -> tuple[str, ...]:
        """All columns, each once."""
        return _each_once((*self.made_of, *self.keys, *self.times, *self.deletes, *self.event_id))


def columns_of_feature(view: FeatureView, name: str, *, select: RowSelect | None = None) -> FeatureColumns:
    """The source columns of one feature of a view.

    Args:
        select: the SQL of the source's transform, as the engine reads it. Without it, rows of a transform may depend on
            each column of a message; a Python function is not looked into either.

    Raises:
        KeyError: the view has no feature with this name.
    """
    if name not in view.feature_names:
        raise KeyError(f"feature view {view.name!r} has no feature {name!r}")
    source = view.source
    rows = _RowColumns(view, select)
    aggregation = next((each for each in view.aggregations if each.name == name), None)
    value = rows.of([name]) if aggregation is None else rows.of_expression(aggregation.column)
    where = rows.of_expression(None if aggregation is None else aggregation.where)
    times = [each for each in (source.timestamp_field, source.created_timestamp_column) if each]
    return FeatureColumns(
        source=source.name,
        value=value,
        where=_each_once((*where, *rows.filter)),
        keys=rows.of(view.join_keys),
        times=rows.of(times),
        deletes=rows.of_expression(source.delete_when),
        event_id=rows.of([source.event_id]) if isinstance(source, LogSource) and source.event_id else (),
    )


class _RowColumns:
    """From names in expressions to the source's own columns.

    Attributes:
        filter: the columns that decide whether a message becomes a row.
    """

    def __init__(self, view: FeatureView, select: RowSelect | None) -> None:
        self._source = view.source
        self._reads: Mapping[str, Iterable[str]] | None = None
        self.filter: tuple[str, ...] = ()
        if not isinstance(view.source, LogSource) or view.source.transform is None:
            return
        if select is not None:
            self._reads, self.filter = select.reads, tuple(select.where_reads)
        else:
            message = tuple(field.name for field in view.source.message_fields)
            self._reads = {field.name: message for field in view.source.schema}
            self.filter = message

    def of(self, names: Iterable[str]) -> tuple[str, ...]:
        columns = [self._source.raw(name) for name in names]
        if self._reads is None:
            return _each_once(columns)
        return _each_once(read for column in columns for read in self._reads.get(column, (column,)))

    def of_expression(self, text: str | None) -> tuple[str, ...]:
        return self.of(parse(text).columns) if text else ()


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


__all__ = ["FeatureColumns", "columns_of_feature"]
