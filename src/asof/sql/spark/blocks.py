"""The plan for aggregates of sliding windows that have no difference, such as `max`: two partial states per spine row.

Time is cut into blocks of a window's length and one hop. A window of m hops and the one that is open covers m + 1 hops,
so it is either one block, or the end of a block and the beginning of the next:

    |      block      |      block      |
              [ suffix | prefix ]
              start             moment

A prefix is a running aggregate within a block, a suffix is one that runs backwards, so that each row is seen twice,
however long the window is; and no running total passes the borders of a block, however many rows a key has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asof.definitions import Sliding
from asof.sql.spark.latest import SO_FAR
from asof.sql.spark.types import floor_divide, floor_to

_END, _END_EXCLUSIVE, _START = 1, -1, -2
"""Marks of spine rows between the events, whose mark is 0: before the events of their moment, or after them."""


def fits_blocks(window: Sliding) -> bool:
    """Whether the window has as many hops at each moment."""
    return window.length % window.hop == 0


@dataclass
class BlockStates:
    """The partial states of one window that are asked for.

    Args:
        alias: what the names of the relations that have them begin with.
        states: the SQL of an aggregate → the name of its state.
    """

    window: Sliding
    alias: str
    states: dict[str, str] = field(default_factory=dict)

    def merged(self, call: str) -> str:
        """An SQL aggregate over the window: of its two states, merged.

        Args:
            call: over the events' values, such as `max(v0)`.
        """
        function, values = call.removesuffix(")").split("(", 1)
        if function in ("stddev_samp", "var_samp"):
            variance = self._variance(values)
            return f"sqrt({variance})" if function == "stddev_samp" else variance
        if function == "avg":
            count = self.merged(f"count({values})")
            return f"CASE WHEN {count} > 0 THEN {self.merged(f'sum({values})')} / CAST({count} AS double) END"
        first, second = self._both(call)
        if function == "count":
            return f"(coalesce({first}, 0) + coalesce({second}, 0))"
        either = f"CASE WHEN {first} IS NULL THEN {second} WHEN {second} IS NULL THEN {first}"
        if function == "sum":
            return f"{either} ELSE {first} + {second} END"
        return f"{either} WHEN {first} {'<=' if function == 'min' else '>='} {second} THEN {first} ELSE {second} END"

    def _both(self, call: str) -> tuple[str, str]:
        name = self.states.setdefault(call, f"x{len(self.states)}")
        return f"{self.alias}_suffix.{name}", f"{self.alias}_prefix.{name}"

    def _variance(self, values: str) -> str:
        """The sample variance; squared distances from each part's mean, and of both means, are added up."""
        counts = [f"CAST(coalesce({each}, 0) AS double)" for each in self._both(f"count({values})")]
        means, spreads = self._both(f"avg({values})"), self._both(f"var_pop({values})")
        count = f"({counts[0]} + {counts[1]})"
        apart = f"({means[0]} - {means[1]})"
        within = " + ".join(f"coalesce({spread} * {n}, 0)" for spread, n in zip(spreads, counts))
        between = f"coalesce({apart} * {apart} * {counts[0]} * {counts[1]} / {count}, 0)"
        return f"CASE WHEN {count} > 1 THEN ({within} + {between}) / ({count} - 1) END"


def block_states(
    blocks: BlockStates, events: str, moments: str, *, keys: Sequence[str], values: Sequence[str], exclusive: bool
) -> dict[str, str]:
    """SELECTs of n and the states, by the alias of each: one row per spine row, for suffixes where there is one.

    Args:
        events: SELECT of keys, ts and values.
        moments: SELECT of the spine's keys, ts (the last moment that counts) and n.
        exclusive: the moment that windows end at is the one after ts.
    """
    size = blocks.window.length + blocks.window.hop
    moment = "ts + 1" if exclusive else "ts"
    start = floor_to(f"{moment} - {blocks.window.length}", blocks.window.hop)
    nulls = dict.fromkeys(values, "NULL")
    of_events = _marked(keys, "ts", 0, "CAST(NULL AS bigint)", {name: name for name in values}, events)
    ends = _marked(keys, moment, _END_EXCLUSIVE if exclusive else _END, "n", nulls, moments)
    # A window that begins with a block has no suffix.
    starts = f"{_marked(keys, start, _START, 'n', nulls, moments)} WHERE pmod({start}, {size}) <> 0"
    parts = f"PARTITION BY {', '.join([*keys, 'block'])}"

    def running(marks: str, order: str) -> str:
        states = [f"{call} OVER ({parts} ORDER BY {order} {SO_FAR}) AS {name}" for call, name in blocks.states.items()]
        return f"""\
SELECT {", ".join(["n", *blocks.states.values()])}
FROM (
SELECT n, {", ".join(states)}
FROM (
SELECT *, (block + 1) * {size} - ts AS until_end
FROM (
SELECT *, {floor_divide("ts", size)} AS block
FROM (
{of_events}
UNION ALL
{marks}
)
)
)
)
WHERE n IS NOT NULL"""

    return {
        f"{blocks.alias}_prefix": running(ends, "ts, mark"),
        # Some engines turn `ts DESC` into a frame that shrinks, from which values are subtracted again.
        f"{blocks.alias}_suffix": running(starts, "until_end, -mark"),
    }


def _marked(keys: Sequence[str], ts: str, mark: int, n: str, values: Mapping[str, str], rows: str) -> str:
    columns = [
        *keys,
        f"{ts} AS ts",
        f"{mark} AS mark",
        f"{n} AS n",
        *(f"{sql} AS {name}" for name, sql in values.items()),
    ]
    return f"SELECT {', '.join(columns)} FROM (\n{rows}\n)"


__all__ = ["BlockStates", "block_states", "fits_blocks"]
