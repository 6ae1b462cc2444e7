"""Where the boxes of a layered drawing stand: columns from left to right, few crossings, short lines.

Source: K. Sugiyama, S. Tagawa, M. Toda, Methods for Visual Understanding of Hierarchical System Structures (1981)
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_SWEEPS = 12
"""How often the order of the columns is improved, forth and back; the best order of all counts."""

_STRAIGHTENINGS = 6

_BEND = 0.45
"""How much room a line through a column takes, of that of a box."""


@dataclass(frozen=True)
class Layout:
    """Positions in rows and columns.

    Args:
        column: box → its column, from 0.
        row: box → the row of its middle, from 0; rows may be fractions.
        bends: line → the rows at which it passes the columns between its ends.
        columns: the number of columns.
    """

    column: Mapping[str, int]
    row: Mapping[str, float]
    bends: Mapping[tuple[str, str], tuple[float, ...]]
    columns: int


def layered(ranks: Mapping[str, int], lines: Sequence[tuple[str, str]]) -> Layout:
    """Place boxes so that all lines lead to the right.

    Args:
        ranks: box → the least column that it may stand in, in the order in which boxes of a column should stand where
            nothing else matters. Columns without boxes are left out.
        lines: from box to box; those of a circle that would lead to the left have no bends.
    """
    column = _columns(ranks, lines)
    links: dict[tuple[str, str], list[_Stop]] = {}
    order: list[list[_Stop]] = [[] for _ in range(max(column.values(), default=0) + 1)]
    for box, place in column.items():
        order[place].append((box, "", 0))
    for start, end in lines:
        if column[end] <= column[start]:
            continue
        between = range(column[start] + 1, column[end])
        stops: list[_Stop] = [(start, end, place) for place in between]
        for stop in stops:
            order[stop[2]].append(stop)
        links[start, end] = [(start, "", 0), *stops, (end, "", 0)]
    before, after = _neighbours(links.values())
    order = _uncrossed(order, before, after)
    rows = _rows(order, before, after)
    return Layout(
        column=column,
        row={box: rows[box, "", 0] for box in column},
        bends={line: tuple(rows[stop] for stop in stops[1:-1]) for line, stops in links.items()},
        columns=len(order),
    )


_Stop = tuple[str, str, int]
"""A box (name, "", 0), or where a line passes a column: (start, end, column)."""

_Neighbours = Mapping[_Stop, Sequence[_Stop]]


def _columns(ranks: Mapping[str, int], lines: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The column of each box: at least its rank, and to the right of all that lead to it."""
    column = dict(ranks)
    for _ in range(len(ranks)):
        late = [(start, end) for start, end in lines if column[end] <= column[start]]
        if not late:
            break
        for start, end in late:
            column[end] = max(column[end], column[start] + 1)
    used = sorted(set(column.values()))
    return {box: used.index(place) for box, place in column.items()}


def _neighbours(links: Iterable[Sequence[_Stop]]) -> tuple[dict[_Stop, list[_Stop]], dict[_Stop, list[_Stop]]]:
    """Each stop's neighbours to the left, and to the right."""
    before: dict[_Stop, list[_Stop]] = {}
    after: dict[_Stop, list[_Stop]] = {}
    for stops in links:
        for left, right in zip(stops, stops[1:], strict=False):
            after.setdefault(left, []).append(right)
            before.setdefault(right, []).append(left)
    return before, after


def _uncrossed(order: list[list[_Stop]], before: _Neighbours, after: _Neighbours) -> list[list[_Stop]]:
    """The columns in an order with few crossings: each by the means of its neighbours' positions, forth and back."""
    best, least = order, _crossings(order, after)
    for sweep in range(_SWEEPS):
        if not least:
            break
        forth = sweep % 2 == 0
        order = [list(column) for column in order]
        positions = range(1, len(order)) if forth else range(len(order) - 2, -1, -1)
        for place in positions:
            fixed = {stop: index for index, stop in enumerate(order[place - 1 if forth else place + 1])}
            sides = before if forth else after
            means = {
                stop: sum(fixed[each] for each in sides.get(stop, ())) / len(sides[stop]) if sides.get(stop) else index
                for index, stop in enumerate(order[place])
            }
            order[place].sort(key=means.__getitem__)
        if (found := _crossings(order, after)) < least:
            best, least = order, found
    return best


def _crossings(order: Sequence[Sequence[_Stop]], after: _Neighbours) -> int:
    """How many pairs of lines between neighbouring columns cross."""
    total = 0
    for left, right in zip(order, order[1:], strict=False):
        position = {stop: index for index, stop in enumerate(right)}
        seen: list[int] = []
        for stop in left:
            ends = sorted(position[each] for each in after.get(stop, ()))
            total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _rows(order: Sequence[Sequence[_Stop]], before: _Neighbours, after: _Neighbours) -> dict[_Stop, float]:
    """The row of each stop: near its neighbours' mean, in order, without overlaps; the first row is 0."""
    rows: dict[_Stop, float] = {}
    for column in order:
        at = 0.0
        for index, stop in enumerate(column):
            at += _room(column[index - 1], stop) if index else 0.0
            rows[stop] = at
    for turn in range(_STRAIGHTENINGS):
        sides = (before, after) if turn % 2 == 0 else (after, before)
        for column in order if turn % 2 == 0 else reversed(order):
            wanted = []
            for stop in column:
                near = sides[0].get(stop) or sides[1].get(stop) or (stop,)
                wanted.append(sum(rows[each] for each in near) / len(near))
            rows.update(zip(column, _apart(column, wanted), strict=True))
    first = min(rows.values(), default=0.0)
    return {stop: row - first for stop, row in rows.items()}


def _apart(column: Sequence[_Stop], wanted: Sequence[float]) -> list[float]:
    """Rows as near to the wanted ones as possible (in squares), in their order and far enough apart.

    Without the least distances it is a regression that only rises: neighbours that are out of order become one block
    at their mean.
    """
    offsets = [0.0]
    for above, stop in zip(column, column[1:], strict=False):
        offsets.append(offsets[-1] + _room(above, stop))
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = want - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            more, members = blocks.pop()
            total, count = total + more, count + members
        blocks.append((total, count))
    means = [total / count for total, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _room(above: _Stop, below: _Stop) -> float:
    """The least distance of two stops."""
    return (_size(above) + _size(below)) / 2


def _size(stop: _Stop) -> float:
    return _BEND if stop[1] else 1.0


__all__ = ["Layout", "layered"]
