"""The demo's numbers by DuckDB alone, straight from its Parquet and Delta files: what pages have to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

FEATURES = {
    "user_profile:country": "SELECT country AS value FROM users",
    "user_traffic:views_7d": """
        SELECT (SELECT count(*) FROM events b WHERE b.user_id = a.user_id AND b.happened <= a.happened
                AND b.happened >= date_trunc('hour', a.happened - INTERVAL 7 DAY)) AS value FROM events a""",
    "user_traffic:session_photo_page_views": "SELECT photos AS value FROM visits",
    "browsing_ratios:product_per_listing": "SELECT products / nullif(listings, 0) AS value FROM visits",
}  # fmt: skip
"""Reference → its values as of each event; of a latest value those of all rows.

A session ends where the next visit is more than an hour later.
"""

_TABLES = """
    CREATE VIEW users AS SELECT * FROM read_parquet($users);
    CREATE VIEW events AS SELECT user_id, page, make_timestamp("timestamp" * 1000) AS happened FROM read_parquet($events);
    CREATE VIEW visits AS SELECT *,
        count(*) FILTER (page = 'listing_page') OVER visit AS listings,
        count(*) FILTER (page = 'product_page') OVER visit AS products,
        count(*) FILTER (page = 'photo_page') OVER visit AS photos
    FROM (SELECT *, sum(is_first::INT) OVER (PARTITION BY user_id ORDER BY happened) AS session
        FROM (SELECT *, coalesce(happened - lag(happened) OVER (PARTITION BY user_id ORDER BY happened) > INTERVAL 1 HOUR, true) AS is_first
            FROM events))
    WINDOW visit AS (PARTITION BY user_id, session ORDER BY happened RANGE UNBOUNDED PRECEDING)
"""


@dataclass(frozen=True)
class RawProfile:
    """What DuckDB says of a feature's values."""

    rows: int
    nulls: int
    distinct: int
    low: Any
    high: Any
    mean: float | None
    std: float | None
    top: Sequence[tuple[Any, int]]


class RawNumbers:
    """Asks DuckDB; knows nothing of the store but where its files are.

    Args:
        archive: the folder of the stream's events, a Delta table.
        users: the Parquet file of registrations.
    """

    def __init__(self, archive: Path, users: Path) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        files = DeltaTable(str(archive)).file_uris()
        for statement in _TABLES.replace("$users", f"'{users}'").replace("$events", str(files)).split(";"):
            self._connection.execute(statement)

    def close(self) -> None:
        self._connection.close()

    def one(self, sql: str) -> Any:
        """The only value of a query."""
        (row,) = self._connection.execute(sql).fetchall()
        return row[0]

    def profile(self, reference: str) -> RawProfile:
        """The summary of a feature's values; of text mean and standard deviation are those of its length."""
        values, size = FEATURES[reference], "value" if reference != "user_profile:country" else "length(value)"
        row = self._connection.execute(
            f"SELECT count(*), count(*) - count(value), count(DISTINCT value), min(value), max(value),"
            f" avg({size}), stddev_samp({size}) FROM ({values})"
        ).fetchone()
        assert row is not None
        top = self._connection.execute(
            f"SELECT value, count(*) AS n FROM ({values}) WHERE value IS NOT NULL GROUP BY 1 ORDER BY n DESC, value LIMIT 20"
        ).fetchall()
        return RawProfile(*row, top=top)

    def quantiles(self, reference: str, shares: Sequence[float]) -> list[float]:
        """The values below which such shares of all values are; between two values in proportion."""
        size = "value" if reference != "user_profile:country" else "length(value)"
        found = self.one(f"SELECT quantile_cont({size}, {list(shares)}) FROM ({FEATURES[reference]})")
        return [float(each) for each in found]

    def bins(self, reference: str, edges: Sequence[float]) -> list[int]:
        """How many values are in each bin between edges, each the greatest value of the bin before it."""
        size = "value" if reference != "user_profile:country" else "length(value)"
        ends = ["-inf", *map(repr, edges), "inf"]
        counts = [
            f"count(*) FILTER ({size} > '{low}'::DOUBLE AND {size} <= '{high}'::DOUBLE)"
            for low, high in zip(ends[:-1], ends[1:], strict=True)
        ]
        row = self._connection.execute(f"SELECT {', '.join(counts)} FROM ({FEATURES[reference]})").fetchone()
        assert row is not None
        return list(row)
