"""The source columns that a feature of a view is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asof.definitions import FeatureView, LogSource, Source
from asof.definitions.windows import ORDERED
from asof.expressions import parse
from asof.sql.query import tie_columns
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
        order: those that decide which of two rows of equal times is the later one, where the source has no arrival.
    """

    source: str
    value: tuple[str, ...]
    where: tuple[str, ...]
    keys: tuple[str, ...]
    times: tuple[str, ...]
    deletes: tuple[str, ...]
    event_id: tuple[str, ...]
    order: tuple[str, ...] = ()

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns of value and condition, each once."""
        return _each_once((*self.value, *self.where))

    @property
    def all(self) -> tuple[str, ...]:
        """All columns, each once."""
        return _each_once((*self.made_of, *self.keys, *self.times, *self.deletes, *self.event_id, *self.order))


def columns_of_view(
    view: FeatureView, *, select: RowSelect | None = None, only: str | None = None
) -> dict[str, FeatureColumns]:
    """Feature → its source columns, for all features of a view.

    Args:
        select: the SQL of the source's transform, as the engine reads it. Without it, rows of a transform may depend on
            each column of a message; a Python function is not looked into either.
        only: the one feature that is asked for.
    """
    source = view.source
    times = [source.timestamp_field, source.created_timestamp_column]
    event_id = source.event_id if isinstance(source, LogSource) else ""
    return _columns(view, _RowColumns(source, select), times=times, event_id=event_id, only=only)


def columns_of_feature(view: FeatureView, name: str, *, select: RowSelect | None = None) -> FeatureColumns:
    """The source columns of one feature: see `columns_of_view`.

    Raises:
        KeyError: the view has no feature with this name.
    """
    if name not in view.feature_names:
        raise KeyError(f"feature view {view.name!r} has no feature {name!r}")
    return columns_of_view(view, select=select, only=name)[name]


def history_columns_of_view(view: FeatureView) -> dict[str, FeatureColumns]:
    """Feature → the columns of the batch source that holds its source's history; empty where there is no history."""
    source = view.source
    batch = source.batch_source if isinstance(source, LogSource) else None
    if not isinstance(source, LogSource) or batch is None:
        return {}
    # A batch source has the rows that a transform makes of messages, under their names in Asof.
    times = [batch.timestamp_field, batch.created_timestamp_column]
    event_id = source.renamed(source.event_id) if source.event_id else ""
    return _columns(view, _RowColumns(batch, None), times=times, event_id=event_id)


def _columns(
    view: FeatureView, rows: _RowColumns, *, times: Iterable[str], event_id: str, only: str | None = None
) -> dict[str, FeatureColumns]:
    shared: dict[str, tuple[str, ...]] = {
        "keys": rows.of(view.join_keys), "times": rows.of(each for each in times if each),
        "deletes": rows.of_expression(view.source.delete_when), "event_id": rows.of([event_id] if event_id else []),
    }  # fmt: skip
    # Where rows have no arrival, all columns that the view reads decide which of two rows of equal times is the later.
    order = () if view.source.has_arrival else rows.of(tie_columns(view))
    if not view.is_aggregated:
        return {
            name: FeatureColumns(
                source=rows.source.name, value=rows.of([name]), where=rows.filter, order=order, **shared
            )
            for name in view.feature_names
            if only in (None, name)
        }
    return {
        each.name: FeatureColumns(
            source=rows.source.name, value=rows.of_expression(each.column),
            where=_each_once((*rows.of_expression(each.where), *rows.filter)),
            order=order if each.function in ORDERED else (), **shared,
        )
        for each in view.aggregations
        if only in (None, each.name)
    }  # fmt: skip


class _RowColumns:
    """From names in expressions to the source's own columns.

    Attributes:
        filter: the columns that decide whether a message becomes a row.
    """

    def __init__(self, source: Source, select: RowSelect | None) -> None:
        self.source = source
        self._reads: Mapping[str, Iterable[str]] | None = None
        self.filter: tuple[str, ...] = ()
        if not isinstance(source, LogSource) or source.transform is None:
            return
        if select is not None:
            self._reads, self.filter = select.reads, tuple(select.where_reads)
        else:
            message = tuple(field.name for field in source.message_fields)
            self._reads = {field.name: message for field in source.schema}
            self.filter = message

    def of(self, names: Iterable[str]) -> tuple[str, ...]:
        columns = [self.source.raw(name) for name in names]
        if self._reads is None:
            return _each_once(columns)
        return _each_once(read for column in columns for read in self._reads.get(column, (column,)))

    def of_expression(self, text: str | None) -> tuple[str, ...]:
        return self.of(parse(text).columns) if text else ()


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


__all__ = ["FeatureColumns", "columns_of_feature", "columns_of_view", "history_columns_of_view"]
