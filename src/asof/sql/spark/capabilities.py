"""What an engine of Spark's SQL can do, found by asking it: no plan is chosen by a product's name."""

from __future__ import annotations

from dataclasses import dataclass

from asof.sql.spark.dialect import CHECKED, SPARK, SparkDialect

DECIMALS = "SELECT try_multiply(CAST(1 AS decimal(38,0)), CAST(1 AS decimal(38,0))) AS one"
"""Fails where decimals have no functions that return null beyond 38 digits."""

WINDOWS = (
    "EXPLAIN SELECT last(a) IGNORE NULLS OVER (PARTITION BY b ORDER BY a) AS found "
    "FROM (SELECT 1 AS a, 2 AS b UNION ALL SELECT 3, 2)"
)
"""Its text names the operators that run a window."""

_RESCANNING = "WindowAggExec"
"""The operator that looks for the last value from each row backwards, through all rows of a partition."""

HOT_KEY_ROWS = 100_000
"""A key with fewer rows delays no task, whatever the others have."""

_TASKS = 200
"""Into so many parts an engine divides a shuffle; a key with more rows than a part of them makes its task the last."""


def is_hot(rows: int, total: int, *, least: int = HOT_KEY_ROWS) -> bool:
    """Whether a key with so many of all rows is to be cut by day (`asof.sql.spark.latest`)."""
    return rows >= least and rows * _TASKS >= total


@dataclass(frozen=True)
class Capabilities:
    """What decides between plans with the same result.

    Args:
        carries_last: `last(value) IGNORE NULLS` over all rows so far takes one pass; otherwise the running count of
            rows finds a row, and a join fetches it.
        has_try_decimals: `DECIMALS` works.
    """

    carries_last: bool = True
    has_try_decimals: bool = True

    @classmethod
    def found(cls, *, windows: str, decimals: bool) -> Capabilities:
        """What the probes say.

        Args:
            windows: the text that `WINDOWS` returns.
            decimals: whether `DECIMALS` works.
        """
        return cls(carries_last=_RESCANNING not in windows, has_try_decimals=decimals)

    @property
    def dialect(self) -> SparkDialect:
        """The dialect of such an engine."""
        return SPARK if self.has_try_decimals else CHECKED


__all__ = ["DECIMALS", "HOT_KEY_ROWS", "WINDOWS", "Capabilities", "is_hot"]
