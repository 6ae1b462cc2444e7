"""Windows and the aggregations over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asof import dtypes
from asof.definitions.base import written_at
from asof.dtypes import DType
from asof.errors import DefinitionError, nearest
from asof.timing import Micros, default_hop, span, span_text

FUNCTIONS = ("count", "sum", "mean", "min", "max", "std", "var", "first", "last", "count_distinct", "last_n")
ORDERED = ("first", "last", "last_n")
"""Functions whose value depends on the order of rows."""
_SAME = {"avg": "mean", "stddev": "std", "stddev_samp": "std", "variance": "var", "var_samp": "var", "latest": "last"}
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPACED = re.compile(r"\w+(?:[ .-]\w+)+")
"""A name with spaces, points or dashes."""
MAX_HOPS = 1000


def _micros(parameter: str, value: timedelta | str | None) -> Micros:
    """A duration of a window in microseconds."""
    try:
        return span(value)
    except ValueError as error:
        raise DefinitionError(
            f"{parameter}={value!r} is not a duration", hint="give a timedelta, or text like '1h30m' or '7d'",
            where=written_at(),
        ) from error  # fmt: skip


@dataclass(frozen=True, init=False)
class Sliding:
    """A window of fixed length that ends at t: events with `floor(t - length, hop) <= event_time <= t`.

    Args:
        length: a timedelta, or text like `1d`.
        hop: the step in which the window's start moves; by default 1 s to 1 d, growing with the length.
    """

    length: Micros
    hop: Micros

    def __init__(self, length: timedelta | str, hop: timedelta | str | None = None) -> None:
        size, step = _micros("sliding window: length", length), _micros("sliding window: hop", hop)
        if size <= 0 or step < 0:
            raise DefinitionError(
                f"window of length {length!r}, hop {hop!r}: expected positive durations", where=written_at()
            )
        object.__setattr__(self, "length", size)
        object.__setattr__(self, "hop", step or default_hop(size))

    @classmethod
    def of_micros(cls, length: Micros, hop: Micros | None = None) -> Sliding:
        """A window whose length and hop are given in microseconds."""
        return cls(timedelta(microseconds=length), None if hop is None else timedelta(microseconds=hop))

    def __str__(self) -> str:
        if self.hop == default_hop(self.length):
            return f"sliding {span_text(self.length)}"
        return f"sliding {span_text(self.length)} hop {span_text(self.hop)}"


@dataclass(frozen=True, init=False)
class Session:
    """A session: the chain of a key's events at most `gap` apart that is still open at t."""

    gap: Micros

    def __init__(self, gap: timedelta | str) -> None:
        size = _micros("session window: gap", gap)
        if size <= 0:
            raise DefinitionError(f"session gap {gap!r}: expected a positive duration", where=written_at())
        object.__setattr__(self, "gap", size)

    @classmethod
    def of_micros(cls, gap: Micros) -> Session:
        """A session whose gap is given in microseconds."""
        return cls(timedelta(microseconds=gap))

    def __str__(self) -> str:
        return f"session gap {span_text(self.gap)}"


Window = Sliding | Session | None
"""None: all events of all time."""


class Aggregation:
    """One aggregate of a source's events, over a window that ends at t.

    Args:
        column: a column or an expression of the closed language; empty for `count` of rows.
        function: one of `FUNCTIONS` (`avg` is `mean`).
        time_window: Feast's spelling of `window=Sliding(time_window)`.
        name: the feature's name; by default `{function}_{column}[_{seconds}s]`.
        where: only events for which this expression is true.
        window: `Sliding(length)`, `Session(gap)`, or None for all events ever.
        n: how many values `last_n` keeps, oldest first.
        default: the value to return instead of null.
    """

    __slots__ = ("column", "function", "name", "where", "window", "n", "default", "dtype", "description")

    def __init__(
        self,
        column: str = "",
        function: str = "",
        time_window: timedelta | str | None = None,
        slide_interval: timedelta | str | None = None,
        name: str | None = None,
        *,
        where: str | None = None,
        window: Window = None,
        n: int = 0,
        default: object = None,
        dtype: DType | None = None,
        description: str = "",
    ) -> None:
        function = _SAME.get(function, function)
        label = f"aggregation {name or function + '(' + column + ')'!r}"

        def refuse(problem: str, hint: str = "") -> DefinitionError:
            return DefinitionError(f"{label}: {problem}", hint=hint, where=written_at())

        if function not in FUNCTIONS:
            raise refuse(
                f"no function {function!r}",
                hint=nearest(function, FUNCTIONS) or f"choose one of {', '.join(FUNCTIONS)}",
            )
        if not column and function != "count":
            raise refuse(f"function {function!r} needs a column", hint="give column=")
        if time_window is not None and window is not None:
            raise refuse("has both time_window= and window=", hint="give one of them")
        if time_window is not None:
            # Under the names that were written.
            _micros(f"{label}: time_window", time_window), _micros(f"{label}: slide_interval", slide_interval)
            window = Sliding(time_window, slide_interval if slide_interval != time_window else None)
        if window is not None and not isinstance(window, Sliding | Session):
            raise refuse(f"window={window!r} is not a window", hint="write Sliding('1d') or Session('1h')")
        if (function == "last_n") != (n > 0):
            raise refuse(
                f"n={n} does not fit function {function!r}",
                hint="give last_n an n= of at least 1, and other functions none",
            )
        self.column, self.function, self.where, self.window, self.n = column, function, where or "", window, n
        self.default, self.dtype, self.description = default, dtype, description
        self.name = name or self._default_name(refuse)

    def _default_name(self, refuse: Any) -> str:
        if self.column and not _COLUMN.fullmatch(self.column):
            hint = "give name="
            if _SPACED.fullmatch(self.column):
                hint += f"; if it is the name of a column, write column='\"{self.column}\"'"
            raise refuse(f"column {self.column!r} is an expression, so there is no default name", hint=hint)
        parts = [self.function] + ([self.column] if self.column else [])
        if isinstance(self.window, Sliding):
            parts.append(f"{self.window.length // 1_000_000}s")
        elif isinstance(self.window, Session):
            parts.append("session")
        return "_".join(parts)

    def output_dtype(self, column: DType | None) -> DType:
        """Output type for a column expression of the given type (None for `count` of rows)."""
        if self.function in ("count", "count_distinct"):
            return dtypes.Int64
        assert column is not None
        if self.function in ("mean", "std", "var"):
            return dtypes.Float64
        if self.function == "sum":
            # A sum has room for more digits than its values.
            return (
                dtypes.Decimal(38, column.scale)
                if column.name == "Decimal"
                else dtypes.Float64
                if column.is_float
                else dtypes.Int64
            )
        if self.function == "last_n":
            return dtypes.Array(column)
        return column

    def with_dtype(self, dtype: DType) -> Aggregation:
        """A copy of the aggregation with its output type filled in."""
        return Aggregation(
            self.column,
            self.function,
            name=self.name,
            where=self.where,
            window=self.window,
            n=self.n,
            default=self.default,
            dtype=dtype,
            description=self.description,
        )

    def content(self) -> dict[str, object]:
        content: dict[str, Any] = {"name": self.name, "function": self.function}
        if self.column:
            content["column"] = self.column
        if self.where:
            content["where"] = self.where
        if isinstance(self.window, Sliding):
            content["sliding"] = [self.window.length, self.window.hop]
        elif isinstance(self.window, Session):
            content["session"] = self.window.gap
        if self.n:
            content["n"] = self.n
        if self.default is not None:
            content["default"] = self.default
        if self.dtype is not None:
            content["dtype"] = str(self.dtype)
        if self.description:
            content["description"] = self.description
        return content

    @classmethod
    def of(cls, content: Mapping[str, object]) -> Aggregation:
        said: Mapping[str, Any] = content
        window: Window = None
        if "sliding" in content:
            window = Sliding.of_micros(*said["sliding"])
        elif "session" in content:
            window = Session.of_micros(said["session"])
        return cls(
            said.get("column", ""),
            said["function"],
            name=said["name"],
            where=said.get("where"),
            window=window,
            n=said.get("n", 0),
            default=said.get("default"),
            dtype=dtypes.parse(said["dtype"]) if "dtype" in said else None,
            description=said.get("description", ""),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Aggregation) and self.content() == other.content()

    def __hash__(self) -> int:
        return hash((self.name, self.function, self.column, self.where, self.window))

    def __repr__(self) -> str:
        inside = self.column or "*"
        where = f" where {self.where}" if self.where else ""
        return f"<Aggregation {self.name!r}: {self.function}({inside}){where} over {self.window or 'all events'}>"
