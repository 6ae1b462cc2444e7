"""Compute a view's aggregates for any number of rows, by the faster of two ways."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from asof.aggregation.answer_scalar import answer_few
from asof.aggregation.answer_vector import VectorAggregates, finish
from asof.aggregation.layout import RowLayout
from asof.aggregation.rows import decode
from asof.timing import Micros

FEW_ROWS = 32
"""Number of rows up to which plain Python is faster than numpy."""
ROWS_AT_ONCE = 500
"""Rows per batch: small enough for the processor's cache and for memory that is already allocated."""


def answer(
    layout: RowLayout, blobs: Sequence[bytes | None], t: Micros, names: Sequence[str] | None = None
) -> VectorAggregates:
    """Equal to `finish(layout, decode(layout, blobs), t, names)`, but in lists.

    Raises:
        StorageError: a blob was not written by this layout and format version.
    """
    if len(blobs) <= FEW_ROWS:
        return answer_few(layout, blobs, t, names)
    pieces = -(-len(blobs) // ROWS_AT_ONCE)
    size = -(-len(blobs) // pieces)
    found = [finish(layout, decode(layout, blobs[at : at + size]), t, names) for at in range(0, len(blobs), size)]
    first = found[0]
    columns: dict[str, list[Any]] = dict(first.columns)
    if len(found) > 1:
        columns = {name: list(chain.from_iterable(each.columns[name] for each in found)) for name in columns}
    return VectorAggregates(
        columns,
        behind=_joined([each.behind for each in found]),
        incomplete=_joined([each.incomplete for each in found]),
        overflow=_joined([each.overflow for each in found]),
        out_of_range=sum(each.out_of_range for each in found),
        newest=_joined([each.newest for each in found]),
    )


def _joined(pieces: Sequence[Any]) -> list[Any]:
    """Concatenated arrays as one list."""
    return list(chain.from_iterable(piece.tolist() for piece in pieces))
