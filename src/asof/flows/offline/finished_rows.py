"""The last step of a historical read: on-demand functions, and the columns asked for; here, or where an engine is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from asof.definitions import FeatureView
from asof.derive import DerivationCall, call_of, run_calls
from asof.dtypes import DType
from asof.flows.rows.checks import refuse_misfits
from asof.selection import Selection
from asof.sql.query import PointInTime


@dataclass(frozen=True)
class FinishedRows:
    """Makes the columns asked for of features and of the entity frame's columns; picklable, as functions are.

    Args:
        views: each view, and its features: name → column and type.
        calls: the on-demand functions, in their order.
        outputs: the columns asked for → their types; names are those of the intermediate table.
        schema: of the result.
        inputs: the entity frame's columns that functions take, and the time.
        time: the entity frame's column of times.
        modules: the names of the modules that functions are of.
        packages: what functions import → its version here.
    """

    views: tuple[tuple[FeatureView, Mapping[str, tuple[str, DType]]], ...]
    calls: tuple[DerivationCall, ...]
    outputs: tuple[tuple[str, DType], ...]
    schema: pa.Schema
    inputs: tuple[str, ...]
    time: str
    modules: tuple[str, ...]
    packages: Mapping[str, str]

    @classmethod
    def of(cls, selection: Selection, query: PointInTime, frame: Sequence[str]) -> FinishedRows:
        """For a selection.

        Args:
            frame: the names of the entity frame's columns.
        """
        calls = tuple(map(call_of, selection.derivations))
        found = {feature.output for feature in query.outputs}
        taken = {query.time, *(column for call in calls for column in call.columns)}
        identities = [each.view.code.identity for each in selection.derivations]
        return cls(
            views=tuple(
                (read.view, {each.name: (each.output, each.dtype) for each in read.features}) for read in query.reads
            ),
            calls=calls,
            outputs=tuple((each.column, each.dtype) for each in selection.outputs),
            schema=pa.schema([(each.name, each.dtype.arrow()) for each in selection.outputs]),
            inputs=tuple(name for name in frame if name in taken and name not in found),
            time=query.time,
            modules=tuple(sorted({
                str(name)
                for call in calls
                for name in (call.function.__module__, *_spaces(identities))
            })),
            packages={
                name: version
                for each in identities if each is not None
                for name, version in each.packages.items()
            },
        )  # fmt: skip

    def columns(self, frame: pa.Table, found: pa.Table) -> list[pa.ChunkedArray]:
        """The columns asked for.

        Args:
            frame: the entity frame's columns, of any names: also such as features are called in here.
            found: the features, by the names of the intermediate table.
        """
        for view, features in self.views:
            refuse_misfits(view, {name: (found[column], dtype) for name, (column, dtype) in features.items()})
        own = [name for name in frame.column_names if name not in found.column_names]
        table = pa.table({name: frame[name] for name in own} | {name: found[name] for name in found.column_names})
        table = run_calls(table, self.calls, event_time_column=self.time)
        return [table[column].cast(dtype.arrow()) for column, dtype in self.outputs]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same over batches: of the columns `inputs`, then the features."""
        width = len(self.inputs)
        for batch in batches:
            table = pa.Table.from_batches([batch])
            frame, found = table.select(range(width)), table.select(range(width, table.num_columns))
            made = self.columns(frame.rename_columns(list(self.inputs)), found)
            yield from pa.table(made, schema=self.schema).combine_chunks().to_batches()


def _spaces(identities: Sequence[Any]) -> set[str]:
    """The names of the modules in which functions look names up."""
    return {
        str(space["__name__"])
        for each in identities if each is not None
        for space, _, _ in each.read if "__name__" in space
    }  # fmt: skip


__all__ = ["FinishedRows"]
