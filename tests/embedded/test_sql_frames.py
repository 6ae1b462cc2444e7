"""SQL entity frames: names of their columns, joins by common columns, and names of WITH, alike on every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.definitions import Source
from asof.errors import EntityFrameError
from asof.types import Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
US = pa.timestamp("us", "UTC")
ROWS = pa.table({"user_id": pa.array([1, 2], pa.int64()), "t": pa.array([NOON, NOON], US), "x": [10, 20]})
OTHERS = pa.table({"user_id": pa.array([2, 3], pa.int64()), "s": pa.array([NOON, NOON], US), "y": [5, 6]})


class SqlFramesSuite:
    """Give a store, and a way to write the rows of a source."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FeatureStore]:
        (tmp_path / "feature_store.yaml").write_text("project: frames\n", encoding="utf-8")
        with FeatureStore(tmp_path, clock=lambda: NOON + timedelta(hours=1)) as store:
            yield store

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[str, pa.Table, str], Source]:
        raise NotImplementedError

    @pytest.fixture
    def applied(self, store: FeatureStore, written: Callable[[str, pa.Table, str], Source]) -> FeatureStore:
        entity = Entity("user", join_keys=["user_id"])
        rows, others = written("frame_rows", ROWS, "t"), written("frame_others", OTHERS, "s")
        views = [
            FeatureView("v", entities=[entity], source=rows, schema=[Field("user_id", Int64), Field("x", Int64)]),
            FeatureView("w", entities=[entity], source=others, schema=[Field("user_id", Int64), Field("y", Int64)]),
        ]
        store.apply([entity, rows, others, *views])
        return store

    @pytest.mark.parametrize(
        ("select", "repeated"),
        [
            ("user_id, t AS event_timestamp, x AS label, x + 1 AS label", "label"),
            ("user_id, user_id, t AS event_timestamp", "user_id"),
            ("user_id, t AS event_timestamp, t AS event_timestamp", "event_timestamp"),
            ("*, t AS event_timestamp, x", "x"),
        ],
    )
    def test_equal_names_of_columns_are_refused(self, applied: FeatureStore, select: str, repeated: str) -> None:
        with pytest.raises(EntityFrameError, match=rf"several columns of one name: \['{repeated}'\]"):
            applied.get_historical_features(f"SELECT {select} FROM frame_rows", ["w:y"]).to_arrow()

    def test_names_that_differ_by_case_alone_are_two(self, applied: FeatureStore) -> None:
        text = 'SELECT user_id, t AS event_timestamp, x AS label, x + 1 AS "Label" FROM frame_rows ORDER BY user_id'

        table = applied.get_historical_features(text, ["w:y"]).to_arrow()

        assert table.drop_columns("event_timestamp").to_pydict() == {
            "user_id": [1, 2], "label": [10, 20], "Label": [11, 21], "y": [None, 5],
        }  # fmt: skip

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT user_id, t AS event_timestamp, y FROM frame_rows JOIN frame_others USING (user_id)",
            "SELECT user_id, t AS event_timestamp, y FROM frame_rows NATURAL JOIN frame_others",
            "SELECT user_id, t AS event_timestamp, y FROM (SELECT * FROM frame_rows) r JOIN frame_others USING (user_id)",
            "WITH r AS (SELECT * FROM frame_rows), o AS (SELECT user_id, y FROM frame_others) "
            "SELECT user_id, t AS event_timestamp, y FROM r JOIN o USING (user_id)",
            "WITH r AS (SELECT user_id, t FROM frame_rows WHERE EXISTS (SELECT 1 FROM frame_others)) "
            "SELECT user_id, t AS event_timestamp, y FROM r JOIN frame_others USING (user_id) "
            "WHERE user_id IN (SELECT user_id FROM frame_others JOIN r USING (user_id))",
        ],
    )  # fmt: skip
    def test_sources_are_joined_by_their_common_columns(self, applied: FeatureStore, text: str) -> None:
        table = applied.get_historical_features(text, ["v:x"]).to_arrow()

        assert table.to_pydict() == {"user_id": [2], "event_timestamp": [NOON], "y": [5], "x": [20]}

    def test_a_join_by_a_column_that_is_none_is_refused_by_its_name(self, applied: FeatureStore) -> None:
        text = "SELECT user_id, t AS event_timestamp FROM frame_rows JOIN frame_others USING (product)"

        with pytest.raises(EntityFrameError, match="product"):
            applied.get_historical_features(text, ["v:x"])

    @pytest.mark.parametrize(
        "sql",
        [
            "WITH frame_rows AS (SELECT * FROM frame_rows) SELECT user_id, t AS event_timestamp FROM frame_rows",
            "WITH frame_rows AS (SELECT user_id, t FROM frame_rows WHERE user_id = 2) "
            "SELECT user_id, t AS event_timestamp FROM frame_rows",
            "WITH Frame_Rows AS (SELECT * FROM frame_rows WHERE user_id = 2), o AS (SELECT * FROM Frame_Rows) "
            "SELECT user_id, t AS event_timestamp FROM o",
            "SELECT user_id, t AS event_timestamp FROM (WITH frame_rows AS (SELECT * FROM frame_rows) "
            "SELECT * FROM frame_rows) AS inner_rows",
        ],
    )
    def test_a_name_of_with_that_is_a_source_reads_it_inside_and_hides_it_outside(
        self, applied: FeatureStore, sql: str
    ) -> None:
        found = applied.get_historical_features(sql, ["w:y"]).to_arrow()

        expected = {2: 5} if "user_id = 2" in sql else {1: None, 2: 5}
        assert dict(zip(found["user_id"].to_pylist(), found["y"].to_pylist(), strict=True)) == expected

    @pytest.mark.parametrize("text", ["'\ud800'", "'\udfff' || x", '"\ud83d"'])
    def test_text_that_is_no_unicode_is_refused(self, applied: FeatureStore, text: str) -> None:
        with pytest.raises(EntityFrameError, match="lone surrogate"):
            applied.get_historical_features(f"SELECT user_id, t AS event_timestamp, {text} FROM frame_rows", ["w:y"])

    @pytest.mark.parametrize(
        ("select", "says"),
        [
            ("SELECT 1 AS user_id, now() AS event_timestamp FROM frame_secret", "'frame_secret', which is not an applied"),
            ("SELECT 1 AS user_id, now() AS event_timestamp FROM information_schema.tables", "schema's name before"),
            ("SELECT user_id, t AS event_timestamp FROM public.frame_rows", "schema's name before"),
            ("WITH frame_secret AS (SELECT * FROM frame_secret) SELECT 1 AS user_id, now() AS event_timestamp "
             "FROM frame_secret", "'frame_secret', which is not an applied"),
            ("SELECT user_id, t AS event_timestamp, (SELECT max(x) FROM frame_secret) AS m FROM frame_rows", "frame_secret"),
            ("SELECT user_id, t AS event_timestamp FROM frame_rows WHERE EXISTS (SELECT 1 FROM frame_secret)", "frame_secret"),
            ("SELECT user_id, t AS event_timestamp FROM frame_rows UNION ALL SELECT x, now() FROM frame_secret", "frame_secret"),
            ("SELECT user_id, t AS event_timestamp, current_setting('TimeZone') AS s FROM frame_rows", "current_setting"),
            ("SELECT user_id, t AS event_timestamp, nextval('s') AS s FROM frame_rows", "nextval"),
        ],
    )  # fmt: skip
    def test_what_is_no_applied_source_is_not_read(self, applied: FeatureStore, select: str, says: str) -> None:
        with pytest.raises(EntityFrameError, match=says) as caught:
            applied.get_historical_features(select, ["w:y"]).to_arrow()
        assert caught.value.hint

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT user_id, CAST(t AS TIMESTAMP WITH TIME ZONE) + INTERVAL '0 s' AS event_timestamp, abs(x) AS a, "
            "round(x) AS r, upper('a') AS u, CASE WHEN x > 10 THEN 1 ELSE 0 END AS c FROM frame_rows",
            "SELECT user_id, t AS event_timestamp, n FROM frame_rows CROSS JOIN generate_series(1, 1) AS g(n)",
            "SELECT user_id, t AS event_timestamp, row_number() OVER (ORDER BY x) AS n FROM frame_rows",
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 2) "
            "SELECT user_id, t AS event_timestamp FROM frame_rows JOIN n ON i = user_id",
            "SELECT user_id, max(t) AS event_timestamp, count(*) AS n FROM frame_rows GROUP BY user_id",
        ],
    )  # fmt: skip
    def test_functions_and_rows_of_its_own_are_read(self, applied: FeatureStore, text: str) -> None:
        found = applied.get_historical_features(text, ["w:y"]).to_arrow()

        assert dict(zip(found["user_id"].to_pylist(), found["y"].to_pylist(), strict=True)) == {1: None, 2: 5}


FILE_READS = [
    "read_parquet('{file}')", "'{file}'", "read_text('{file}')", "glob('/*')", "query('SELECT 1 AS user_id')",
    "query_table('frame_rows')", "duckdb_secrets()", "duckdb_settings()", "enable_profiling()", "enable_logging()",
    "(DESCRIBE frame_rows)", "json_execute_serialized_sql('x')", "parquet_metadata('{file}')", "memory.main.frame_rows",
    "sniff_csv('{file}')", "frame", "(PIVOT frame_rows ON x USING sum(x))",
]  # fmt: skip


class TestFiles(SqlFramesSuite):
    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[str, pa.Table, str], Source]:
        def write(name: str, rows: pa.Table, time: str) -> Source:
            pq.write_table(rows, tmp_path / f"{name}.parquet")
            return FileSource(f"{name}.parquet", timestamp_field=time)

        return write


class TestCsv(SqlFramesSuite):
    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[str, pa.Table, str], Source]:
        def write(name: str, rows: pa.Table, time: str) -> Source:
            rows.to_pandas().to_csv(tmp_path / f"{name}.csv", index=False)
            return FileSource(f"{name}.csv", timestamp_field=time)

        return write


class TestFrameSqlOfDuckDB:
    """What only DuckDB has."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Callable[[str], FeatureStore]:
        def make(sql_reads: str) -> FeatureStore:
            (tmp_path / "feature_store.yaml").write_text(
                f"project: frames\noffline_store: {{sql_reads: {sql_reads}}}\n", encoding="utf-8"
            )
            pq.write_table(ROWS, tmp_path / "frame_rows.parquet")
            store = FeatureStore(tmp_path, clock=lambda: NOON + timedelta(hours=1))
            entity = Entity("user", join_keys=["user_id"])
            rows = FileSource("frame_rows.parquet", timestamp_field="t")
            store.apply([FeatureView("v", entities=[entity], source=rows, schema=[Field("x", Int64)])])
            return store

        return make

    @pytest.mark.parametrize("relation", FILE_READS)
    def test_files_and_the_database_itself_are_not_read(
        self, made: Callable[[str], FeatureStore], tmp_path: Path, relation: str
    ) -> None:
        frame = ROWS  # a variable by whose name DuckDB would find a table
        assert frame is not None
        text = f"SELECT 1 AS user_id, now() AS event_timestamp FROM {relation.format(file=tmp_path / 'frame_rows.parquet')}"

        with made("sources") as store, pytest.raises(EntityFrameError):
            store.get_historical_features(text, ["v:x"]).to_arrow()

    def test_files_are_read_by_who_asks_for_it(self, made: Callable[[str], FeatureStore], tmp_path: Path) -> None:
        text = f"SELECT user_id, t AS event_timestamp FROM '{tmp_path / 'frame_rows.parquet'}' ORDER BY user_id"

        with made("anything") as store:
            assert store.get_historical_features(text, ["v:x"]).to_arrow()["x"].to_pylist() == [10, 20]

    @pytest.mark.parametrize("call", ["enable_profiling()", "enable_logging()", "force_checkpoint()"])
    def test_even_they_change_nothing_that_outlasts_the_read(
        self, made: Callable[[str], FeatureStore], call: str
    ) -> None:
        with made("anything") as store, pytest.raises(EntityFrameError, match="outlast"):
            store.get_historical_features(f"SELECT 1 AS user_id, now() AS event_timestamp FROM {call}", ["v:x"])

    @pytest.mark.parametrize("text", ["SELECT 1; SET threads = 1", "SET threads = 1", "PRAGMA threads = 1",
                                      "WITH d AS (DELETE FROM frame_rows RETURNING *) SELECT * FROM d"])  # fmt: skip
    def test_a_setting_is_not_changed(self, made: Callable[[str], FeatureStore], text: str) -> None:
        with made("anything") as store, pytest.raises(EntityFrameError):
            store.get_historical_features(text, ["v:x"]).to_arrow()
