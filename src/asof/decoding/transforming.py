"""Transform messages' columns to rows' columns; messages for which that fails become dead letters with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from asof.definitions import LogSource
from asof.definitions.transforms import KEEP
from asof.display import counted
from asof.errors import AsofError, DerivationError, some
from asof.values.fit import fit
from asof.values.legible import why

Transform = Callable[[pa.Table], pa.Table]
"""Returns one row per message, in order, with a boolean column `keep` if some messages are dropped."""

COMPARED = 20
"""Number of first messages that are also transformed one by one, which must give the same rows."""


def transformed(
    source: LogSource,
    index: list[int],
    columns: dict[str, pa.Array],
    transform: Transform,
    *,
    dead_letters: dict[int, str],
) -> tuple[list[int], dict[str, pa.Array]]:
    """Transform the messages at these positions: positions and columns of the rows, in the order of the schema.

    Raises:
        DerivationError: the transform does not return one row per message, whatever the messages.
    """
    table = pa.table(columns)
    bad = [row for row, place in enumerate(index) if place in dead_letters]
    if bad:
        good = np.setdiff1d(np.arange(len(index)), bad)
        table, index = table.take(pa.array(good)), [index[row] for row in good.tolist()]
    made = _TransformedBatch(source, transform)
    pieces = made.rows(table, index, dead_letters) if index else []
    if not pieces:
        return [], {field.name: pa.nulls(0, field.dtype.arrow()) for field in source.schema}
    indexes = [place for piece, _ in pieces for place in piece]
    whole = pa.concat_tables([rows for _, rows in pieces]).combine_chunks()
    return indexes, {field.name: _array(whole[field.name]) for field in source.schema}


class _TransformedBatch:
    """The transformation of one batch."""

    def __init__(self, source: LogSource, transform: Transform) -> None:
        assert source.transform is not None
        self.source, self.transform = source, transform
        self.name = source.transform.name

    def rows(
        self, table: pa.Table, indexes: Sequence[int], dead_letters: dict[int, str]
    ) -> list[tuple[list[int], pa.Table]]:
        """Positions and rows, piece by piece; where the whole fails, halves are tried, down to the failing messages."""
        try:
            answer = self.transform(table)
        except SystemExit as error:
            failure: Exception = RuntimeError(f"it ends the process (SystemExit: {error.code})")
        except AsofError as error:
            failure = error.__cause__ if isinstance(error.__cause__, Exception) else error
        except Exception as error:  # a user's function may raise anything
            failure = error
        else:
            self._compare_once(table, answer)
            return [self._fitted(answer, indexes, dead_letters)]
        if len(indexes) == 1:
            kind, text = type(failure).__name__, why(failure)
            dead_letters[indexes[0]] = f"{self.name} failed: {kind}{f': {text}' if text != kind else ''}"
            return []
        middle = len(indexes) // 2
        return [
            *self.rows(table.slice(0, middle), indexes[:middle], dead_letters),
            *self.rows(table.slice(middle), indexes[middle:], dead_letters),
        ]

    def _fitted(self, answer: Any, indexes: Sequence[int], dead_letters: dict[int, str]) -> tuple[list[int], pa.Table]:
        answer = checked_rows(self.source, answer, len(indexes))
        keep = np.ones(len(indexes), dtype=bool)
        names = [field.name for field in self.source.schema]
        if KEEP in answer.column_names and KEEP not in names:
            keep = _array(answer[KEEP]).fill_null(False).to_numpy(zero_copy_only=False)
        columns = {}
        for field in self.source.schema:
            array, misfits = fit(answer[field.name], field.dtype)
            for row, reason in misfits:
                if keep[row]:
                    dead_letters.setdefault(indexes[row], f"{self.name}: column {field.name!r}: {reason}")
            columns[field.name] = array
        rows = pa.table(columns)
        if keep.all():
            return list(indexes), rows
        return [place for place, kept in zip(indexes, keep.tolist(), strict=True) if kept], rows.filter(pa.array(keep))

    def _compare_once(self, table: pa.Table, answer: Any) -> None:
        """Check that rows depend only on their own message, on the first messages that a process reads."""
        if "_transform_compared" in self.source.__dict__ or table.num_rows < 2:
            return
        object.__setattr__(self.source, "_transform_compared", True)
        answer = checked_rows(self.source, answer, table.num_rows)
        for row in range(min(table.num_rows, COMPARED)):
            try:
                alone = checked_rows(self.source, self.transform(table.slice(row, 1)), 1)
            except DerivationError:
                raise
            except Exception as error:
                raise _wrong(self.source, f"fails on a message alone: {why(error)}", hint="make it row-wise") from error
            for name in answer.column_names:
                one, other = alone[name][0].as_py(), answer[name][row].as_py()
                if one != other and not (one != one and other != other):
                    raise _wrong(
                        self.source,
                        f"returns {other!r} in column {name!r} among other messages, and {one!r} alone",
                        hint="let each row depend on its own message only",
                    )


def checked_rows(source: LogSource, answer: Any, count: int) -> pa.Table:
    """What a source's transform returned for so many messages.

    Raises:
        DerivationError: it is no table, lacks a column, or has more or fewer rows.
    """
    if isinstance(answer, pa.RecordBatch):
        answer = pa.Table.from_batches([answer])
    if not isinstance(answer, pa.Table):
        raise _wrong(source, f"returns {type(answer).__name__}", hint="return a pyarrow Table")
    missing = [field.name for field in source.schema if field.name not in answer.column_names]
    if missing:
        raise _wrong(source, f"does not return column {missing[0]!r}", hint=f"it returns {some(answer.column_names)}")
    if answer.num_rows != count:
        raise _wrong(
            source,
            f"returns {counted(answer.num_rows, 'row')} for {counted(count, 'message')}",
            hint=f"return one row per message, in order; drop messages by a boolean column {KEEP!r}",
        )
    return answer


def _wrong(source: LogSource, problem: str, *, hint: str) -> DerivationError:
    assert source.transform is not None
    return DerivationError(f"source {source.name!r}: {source.transform.name} {problem}", hint=hint, where=source.where)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


__all__ = ["Transform", "checked_rows", "transformed"]
