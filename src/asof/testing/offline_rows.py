"""What every offline store must return for one view's own rows: what `materialize` writes online."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from asof.definitions import Aggregation, Entity, FeatureView, Field, PushSource
from asof.dtypes import Int64, String, Timestamp
from asof.offline.protocol import OfflineStore
from asof.sql.query import OWN, WANTED, NewestRows, RowFilter, RowsOfKeys, TouchedKeys, ViewRows
from asof.testing.history import CORRECTED, NOON, US, events, view

_COLUMNS = ("user", "happened", "value", "written")
_ROWS = events(
    (1, NOON, 10, NOON + 9), (1, NOON, 11, NOON + 8), (1, NOON + 2, 12, NOON + 3), (2, NOON - 5, 20, NOON + 5),
    (2, NOON - 6, 21, NOON), (None, NOON, 30, NOON), (-3, NOON + 1, 40, NOON + 1), (1, NOON + 99, 13, NOON + 99),
    columns=_COLUMNS,
)  # fmt: skip


class ReadsOfViewRows:
    """Part of `asof.testing.offline.OfflineStoreSuite`."""

    @staticmethod
    def ran(engine: OfflineStore, query: ViewRows, rows: pa.Table, **inputs: pa.Table) -> list[tuple[object, ...]]:
        """The rows of a query; their columns are those that it says."""
        result = engine.run(query, {query.view.source.name: rows, **inputs})
        found = result.reader().read_all()
        assert found.schema.equals(result.schema())
        return [tuple(row.values()) for row in found.to_pylist()]

    def test_the_newest_row_of_each_key_is_found(self, engine: OfflineStore) -> None:
        latest = view(Field("value", Int64), source=CORRECTED)

        def newest(chosen: RowFilter) -> list[tuple[object, ...]]:
            return _sorted(self.ran(engine, NewestRows(latest, chosen), _ROWS))

        # k0, ts, created, arrived, f0: the later of one moment is the one that was written down last.
        assert newest(RowFilter(NOON + 2)) == [
            (-3, NOON + 1, NOON + 1, 0, 40), (1, NOON + 2, NOON + 3, 0, 12), (2, NOON - 5, NOON + 5, 0, 20),
        ]  # fmt: skip
        assert newest(RowFilter(NOON, earliest=NOON)) == [(1, NOON, NOON + 9, 0, 10)]
        assert newest(RowFilter(NOON + 1, news_from=NOON + 5)) == [
            (1, NOON, NOON + 9, 0, 10), (2, NOON - 5, NOON + 5, 0, 20),
        ]  # fmt: skip
        assert newest(RowFilter(NOON + 1, news_from=NOON + 9, events_from=NOON + 1)) == [
            (-3, NOON + 1, NOON + 1, 0, 40), (1, NOON, NOON + 9, 0, 10),
        ]  # fmt: skip

    def test_each_touched_key_is_found_once(self, engine: OfflineStore) -> None:
        counted = view(aggregations=[Aggregation("", "count", name="n")], source=CORRECTED)
        everyone = view(aggregations=[Aggregation("", "count", name="n")], source=CORRECTED, entities=())

        assert _sorted(self.ran(engine, TouchedKeys(counted, RowFilter(NOON + 2)), _ROWS)) == [(-3,), (1,), (2,)]
        assert self.ran(engine, TouchedKeys(counted, RowFilter(NOON + 2, news_from=NOON + 9)), _ROWS) == [(1,)]
        assert self.ran(engine, TouchedKeys(everyone, RowFilter(NOON + 2)), _ROWS) == [(0,)]
        assert self.ran(engine, TouchedKeys(everyone, RowFilter(0)), _ROWS) == []

    def test_all_rows_of_the_wanted_keys_come_key_by_key_in_their_order(self, engine: OfflineStore) -> None:
        summed = view(Field("value", Int64), aggregations=[Aggregation("value", "sum", name="s")], source=CORRECTED)
        wanted = pa.table({"k0": pa.array([2, 1, 7], pa.int64())})
        query = RowsOfKeys(summed, RowFilter(NOON + 2, news_from=NOON + 9))

        found = engine.run(query, {"events": _ROWS, WANTED: wanted}).reader().read_all()

        rows = [(row["k0"], row["ts"], row["created"], row[OWN + "value"]) for row in found.to_pylist()]
        assert rows == [
            (1, NOON, NOON + 8, 11), (1, NOON, NOON + 9, 10), (1, NOON + 2, NOON + 3, 12),
            (2, NOON - 6, NOON, 21), (2, NOON - 5, NOON + 5, 20),
        ]  # fmt: skip
        assert found["arrived"].to_pylist() == [1, 2, 3, 1, 2]

    def test_a_log_orders_equal_rows_by_offset_and_a_tombstone_says_that_its_key_is_gone(
        self, engine: OfflineStore
    ) -> None:
        source = PushSource(
            "pushed", [Field("user", String), Field("value", Int64), Field("happened", Timestamp)], "happened",
            delete_when="value < 0",
        )  # fmt: skip
        made = FeatureView(
            "view", source=source, entities=[Entity("user")], schema=[Field("user", String), Field("value", Int64)]
        )
        rows = _pushed(("a", NOON, 1, 4), ("a", NOON, 2, 3), ("É", NOON, 5, 5), ("É", NOON, -1, 6), ("", NOON, 7, 7))

        found = self.ran(engine, NewestRows(made, RowFilter(NOON)), rows)

        assert _sorted(found) == [
            ("", NOON, 0, 7, 7, False), ("a", NOON, 0, 4, 1, False), ("É", NOON, 0, 6, None, True),
        ]  # fmt: skip


def _sorted(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """By key, whatever order an engine's keys come in."""
    return sorted(rows, key=repr)


def _pushed(*rows: Sequence[object]) -> pa.Table:
    """Rows of (user, event time, value, offset) as an archive has them."""
    users, times, values, offsets = zip(*rows, strict=True)
    return pa.table(
        {
            "user": pa.array(users, pa.string()), "happened": pa.array(times, US),
            "value": pa.array(values, pa.int64()), "partition": pa.array([0] * len(rows), pa.int32()),
            "offset": pa.array(offsets, pa.int64()), "ingested_at": pa.array([NOON] * len(rows), US),
        }
    )  # fmt: skip


__all__ = ["ReadsOfViewRows"]
