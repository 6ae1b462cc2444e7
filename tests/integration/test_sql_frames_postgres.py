"""SQL entity frames over tables of Postgres, whatever computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as adbc

from asof import Entity, FeatureStore, FeatureView, Field, PostgresSource
from asof.definitions import Source
from asof.errors import EntityFrameError
from asof.types import Int64
from tests.embedded.test_sql_frames import NOON, ROWS, SqlFramesSuite

pytestmark = pytest.mark.integration


class TestTables(SqlFramesSuite):
    @pytest.fixture
    def written(self, postgres_url: str) -> Iterator[Callable[[str, pa.Table, str], Source]]:
        with adbc.connect(postgres_url) as connection, connection.cursor() as cursor:

            def write(name: str, rows: pa.Table, time: str) -> Source:
                cursor.adbc_ingest(name, rows, mode="create")
                connection.commit()
                return PostgresSource(name, table=name, timestamp_field=time)

            yield write

    @pytest.fixture(params=["duckdb", "postgres"])
    def store(self, tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
        offline = f"{{type: postgres, url: '{postgres_url}'}}" if request.param == "postgres" else "{type: duckdb}"
        (tmp_path / "feature_store.yaml").write_text(
            f"project: frames\noffline_store: {offline}\n"
            f"connections: {{main: {{type: postgres, url: '{postgres_url}'}}}}\n",
            encoding="utf-8",
        )
        with FeatureStore(tmp_path, clock=lambda: NOON + timedelta(hours=1)) as store:
            yield store


class TestFrameSqlOfPostgres:
    """What only PostgreSQL has."""

    @pytest.fixture
    def made(self, tmp_path: Path, postgres_url: str) -> Iterator[Callable[..., FeatureStore]]:
        opened: list[FeatureStore] = []
        with adbc.connect(postgres_url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("frame_rows", ROWS, mode="create")
            cursor.execute("CREATE TABLE frame_secret AS SELECT 'hunter2' AS s")
            cursor.execute(
                "CREATE FUNCTION frame_leak() RETURNS text LANGUAGE sql AS 'SELECT s FROM public.frame_secret'"
            )
            connection.commit()

        def make(sql_reads: str = "sources") -> FeatureStore:
            (tmp_path / "feature_store.yaml").write_text(
                f"project: frames\noffline_store: {{type: postgres, url: '{postgres_url}', sql_reads: {sql_reads}, "
                "max_connections: 1}\n",
                encoding="utf-8",
            )
            opened.append(FeatureStore(tmp_path, clock=lambda: NOON + timedelta(hours=1)))
            rows = PostgresSource("frame_rows", table="frame_rows", timestamp_field="t")
            user = Entity("user", join_keys=["user_id"])
            opened[-1].apply([FeatureView("v", entities=[user], source=rows, schema=[Field("x", Int64)])])
            return opened[-1]

        yield make
        for each in opened:
            each.close()

    def test_a_setting_changed_by_a_frame_does_not_outlast_the_read(self, made: Callable[..., FeatureStore]) -> None:
        store = made("anything")
        look = "SELECT user_id, t AS event_timestamp, current_setting('asof.left', true) AS seen FROM frame_rows"
        text = (
            "SELECT user_id, t AS event_timestamp, set_config('asof.left', 'behind', false) AS a, "
            "set_config('search_path', 'pg_temp', false) AS b, set_config('role', 'none', false) AS c FROM frame_rows"
        )

        for _ in range(3):
            assert store.get_historical_features(text, ["v:x"]).to_arrow()["a"].to_pylist() == ["behind", "behind"]
            seen = store.get_historical_features(look, ["v:x"]).to_arrow()["seen"].to_pylist()
            assert set(seen) <= {None, ""}

    @pytest.mark.parametrize(
        ("what", "says"),
        [
            ("set_config('asof.left', 'behind', false)", r"set_config\(\)"),
            ("pg_catalog.set_config('a.b', 'c', false)", r"set_config\(\)"),
            ("SET_CONFIG('a.b', 'c', false)", r"set_config\(\)"),
            ("pg_read_file('/etc/passwd')", "pg_read_file"),
            ("pg_advisory_lock(1)", "pg_advisory_lock"),
            ("query_to_xml('SELECT * FROM frame_secret', true, true, '')", "query_to_xml"),
            ("frame_leak()", "not one of PostgreSQL's own"),
            ("public.frame_leak()", "schema's name before"),
            ("(TABLE frame_secret)", "frame_secret"),
            ("E'\\'' FROM frame_secret --'", "escapes"),
            ('U&"\\0073"', "escapes"),
            ("(SELECT s FROM Frame_Secret)", "frame_secret"),
            ("(SELECT max(n) FROM ts_stat('SELECT 1') AS f(n))", "ts_stat"),
            ("(SELECT count(*) FROM pg_ls_dir('/'))", "pg_ls_dir"),
        ],
    )
    def test_a_function_or_table_that_reads_more_is_refused(
        self, made: Callable[..., FeatureStore], what: str, says: str
    ) -> None:
        with pytest.raises(EntityFrameError, match=says):
            made().get_historical_features(
                f"SELECT user_id, t AS event_timestamp, {what} AS w FROM frame_rows", ["v:x"]
            )

    def test_another_table_is_read_by_who_asks_for_it(self, made: Callable[..., FeatureStore]) -> None:
        text = "SELECT user_id, t AS event_timestamp, s, frame_leak() AS f FROM frame_rows, public.frame_secret"

        found = made("anything").get_historical_features(text, ["v:x"]).to_arrow()

        assert found["s"].to_pylist() == found["f"].to_pylist() == ["hunter2", "hunter2"]
