"""Historical reads on Sail: files, rows that are sent, SQL, and a server that is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Field, Sliding
from asof.dtypes import Array, Int64, String
from asof.errors import AsofError, ConfigError, EntityFrameError, StorageError
from asof.offline.duckdb.engine import DuckDBEngine
from asof.offline.spark import point_in_time
from asof.offline.spark.engine import SparkOffline
from asof.offline.spark.names import with_backquotes
from asof.offline.spark.staging import FOLDER
from asof.sources.protocol import Batches, Files, ScanRequest
from asof.sql.query import PointInTime
from asof.testing.history import NOON, events, reads, spine, view
from asof.timing import DAY, HOUR
from tests.sail import running
from tests.services import Sail

pytestmark = pytest.mark.integration

LATEST = view(Field("value", Int64))
REQUEST = PointInTime(reads(LATEST))
ROWS = events((1, NOON, 7), (1, NOON + 5, 8), (2, NOON, 9))
FRAME = spine((1, NOON), (2, NOON + 9), (1, NOON + 9), (3, NOON))
EXPECTED = [7, 9, 8, None]


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    with running() as remote:
        yield remote


@pytest.fixture
def store(remote: str, tmp_path: Path) -> Iterator[SparkOffline]:
    store = SparkOffline(tmp_path / "offline", remote=remote)
    yield store
    store.close()


def values(store: SparkOffline, given: Any, frame: Any = FRAME, request: PointInTime = REQUEST) -> list[object]:
    return store.run(request, {"events": given}, spine=frame).reader().read_all()["value"].to_pylist()


def written(folder: Path, name: str, rows: pa.Table) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / name)
    return str(folder / name)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.parquet", "a [1] {b}*?.parquet", "per%20cent + ü.parquet"])
@pytest.mark.parametrize("is_ordered", [True, False])
def test_a_file_of_any_name_is_read(store: SparkOffline, tmp_path: Path, name: str, is_ordered: bool) -> None:
    path = written(tmp_path / "in a folder", name, ROWS)
    written(tmp_path / "in a folder", "a 1 b.parquet", events((1, NOON, 66)))

    assert values(store, Files((path,), ROWS.schema, is_ordered=is_ordered)) == EXPECTED
    assert store.reaches(Files((path,), ROWS.schema, is_ordered=is_ordered))


def test_of_equal_rows_in_files_the_last_by_path_and_row_wins(store: SparkOffline, tmp_path: Path) -> None:
    many = [written(tmp_path, f"{n}.parquet", events(*((1, NOON, n * 100 + i) for i in range(100)))) for n in range(3)]

    assert values(store, Files(tuple(many), ROWS.schema), spine((1, NOON))) == [299]
    assert values(store, Files(tuple(reversed(many)), ROWS.schema), spine((1, NOON))) == [99]


def test_what_folders_and_a_schema_add_to_files_is_read(store: SparkOffline, tmp_path: Path) -> None:
    paths = tuple(written(tmp_path, f"{n}.parquet", events((1, NOON + n, n)).drop_columns(["value"])) for n in range(3))
    folders = pa.table({"value": pa.array([10, 20, 20])})
    files = Files(paths, pa.schema([*ROWS.schema.remove(2), ("value", pa.int64())]), folders, is_ordered=False)

    assert values(store, files, spine((1, NOON), (1, NOON + 2))) == [10, 20]
    assert values(store, Files(paths, ROWS.schema, is_ordered=False), spine((1, NOON))) == [None]


def test_texts_in_lists_may_be_laid_out_otherwise_in_each_file(store: SparkOffline, tmp_path: Path) -> None:
    """As after `asof forget`: Delta's library notes views of texts in the files that it writes again."""
    plain, views = (
        events((1, NOON + n, n)).append_column("value2", pa.array([["a", None]], pa.list_(kind)))
        for n, kind in enumerate((pa.string(), pa.string_view()))
    )
    paths = (written(tmp_path, "0.parquet", plain), written(tmp_path, "1.parquet", views))
    listed = PointInTime(reads(view(Field("value2", Array(String)))))

    for is_ordered in (True, False):
        given = Files(paths, plain.schema, is_ordered=is_ordered)
        found = store.run(listed, {"events": given}, spine=spine((1, NOON), (1, NOON + 1))).reader().read_all()
        assert found["value2"].to_pylist() == [["a", None]] * 2
        assert store.reaches(given)


def test_nanoseconds_and_unsigned_integers_are_what_they_are(store: SparkOffline, tmp_path: Path) -> None:
    odd = pa.table({
        "user": pa.array([1, 1], pa.uint32()), "happened": pa.array([NOON * 1000 + 999, NOON * 1000 + 1000], pa.timestamp("ns")),
        "value": pa.array([1, 2**63 - 1], pa.uint64()),
    })  # fmt: skip

    for given in (odd, Files((written(tmp_path, "odd.parquet", odd),), odd.schema)):
        assert values(store, given, spine((1, NOON), (1, NOON + 1))) == [1, 2**63 - 1]


def test_a_file_that_is_gone_is_an_error_and_no_fewer_rows(store: SparkOffline, tmp_path: Path) -> None:
    paths = [written(tmp_path, f"{n}.parquet", events((1, NOON + n, n))) for n in range(2)]
    files = Files(tuple(paths), ROWS.schema, is_ordered=False)
    result = store.run(REQUEST, {"events": files}, spine=FRAME)
    assert result.reader().read_all().num_rows == FRAME.num_rows

    Path(paths[1]).unlink()

    with pytest.raises(AsofError, match=r"1\.parquet"):
        result.reader().read_all()


# -- hot keys ---------------------------------------------------------------------------------------------------------


def test_a_key_of_very_many_rows_is_found_and_cut_by_day_with_the_same_result(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[frozenset[str]] = []
    compiled = point_in_time.compile_select

    def noted(*given: Any, **options: Any) -> str:
        cut.append(options["hot"])
        return compiled(*given, **options)

    monkeypatch.setattr(point_in_time, "compile_select", noted)
    rng = random.Random(1)
    moments = [NOON + rng.randrange(-5 * DAY, 5 * DAY) // HOUR * HOUR for _ in range(120)]
    rows = events(*((1, at, n) for n, at in enumerate(moments)), (2, NOON, 7))
    frame = spine(*((rng.choice((1, 1, 2, 3)), rng.choice(moments) + rng.choice((0, -1, DAY))) for _ in range(60)))
    count, greatest = (
        Aggregation("value", each, name=each, window=Sliding("26h", "2h")) for each in ("sum", "max")
    )  # fmt: skip
    store = SparkOffline(tmp_path / "offline", remote=remote, hot_key_rows=100)
    duckdb = DuckDBEngine(threads=1)
    file = Files((written(tmp_path, "many.parquet", rows),), rows.schema)
    for made in (LATEST, view(Field("value", Int64), aggregations=[count, greatest])):
        request = PointInTime(reads(made))
        expected = duckdb.run(request, {"events": rows}, spine=frame).to_arrow()
        for given, is_hot in ((rows, True), (file, True), (rows.slice(60), False)):
            found = store.run(request, {"events": given}, spine=frame).to_arrow()

            assert cut.pop() == ({"view"} if is_hot else set())
            assert not is_hot or found.equals(expected)
    duckdb.close()
    store.close()


# -- rows that are sent -----------------------------------------------------------------------------------------------


def test_many_rows_go_through_a_file_that_is_deleted(remote: str, tmp_path: Path) -> None:
    store = SparkOffline(tmp_path / "offline", remote=remote, upload_bytes=1000)
    rows = events(*((n % 3, NOON + n // 3, n) for n in range(3000)))

    answer = values(store, rows, spine(*((user, NOON + 500) for user in range(3))))
    store.close()

    assert answer == [1500, 1501, 1502]
    assert list((tmp_path / "offline" / FOLDER).iterdir()) == []


def test_an_entity_frame_in_chunks_is_whole(store: SparkOffline) -> None:
    frame = spine(*((n % 4, NOON + n) for n in range(50)))
    result = store.run(REQUEST, {"events": ROWS}, spine=frame)
    chunked = type(result)(REQUEST, {"events": ROWS}, frame, 7, server=store.server)

    whole = result.reader().read_all()

    assert chunked.reader(batch_rows=3).read_all().equals(whole)
    assert whole.drop_columns(["value"]).equals(frame)


# -- SQL --------------------------------------------------------------------------------------------------------------


def test_sql_over_sources_takes_names_in_either_quotes(store: SparkOffline) -> None:
    texts = (
        "WITH e AS (SELECT * FROM events) SELECT \"user\", happened AS event_timestamp, 'it''s' AS label FROM e ORDER BY 2, 1",
        "SELECT `user`, happened AS event_timestamp, 'it\\'s' AS label FROM events ORDER BY happened, `user`",
    )
    for text in texts:
        found = store.run(REQUEST, {"events": ROWS}, spine=text).reader().read_all().to_pylist()

        assert [(row["user"], row["label"], row["value"]) for row in found] == [
            (1, "it's", 7),
            (2, "it's", 9),
            (1, "it's", 8),
        ]
        assert store.tables_in(text) == {"events"}


def test_a_mistake_in_sql_is_the_users(store: SparkOffline) -> None:
    with pytest.raises(EntityFrameError, match="nosuch"):
        store.run(REQUEST, {"events": ROWS}, spine="SELECT nosuch FROM events").reader().read_all()
    with pytest.raises(EntityFrameError, match="event_timestamp"):
        store.run(REQUEST, {"events": ROWS}, spine="SELECT `user` FROM events").reader().read_all()


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT * FROM parquet.`/etc/rows`", "'parquet./etc/rows'"), ("SELECT * FROM other.events", "'other.events'"),
        ("SELECT * FROM a.b.events", "'a.b.events'"), ("WITH b AS (SELECT * FROM a.b) SELECT * FROM b", "'a.b'"),
        ("SELECT (SELECT max(x) FROM other.t) FROM events", "'other.t'"),
        ("SELECT reflect('java.lang.System', 'getenv') FROM events", "reflect()"),
        ("SELECT `Reflect`('java.lang.System', 'getenv') FROM events", "reflect()"),
        ("SELECT try_reflect('a', 'b') FROM events", "try_reflect()"), ("SELECT java_method('a', 'b')", "java_method()"),
        ("SELECT system.builtin.reflect('a', 'b') FROM events", "reflect"), ("SELECT own.f(1) FROM events", "own.f"),
        ("SELECT * FROM read_files('/etc')", "read_files()"), ("SELECT * FROM IDENTIFIER('x')", "identifier()"),
        ("SELECT TRANSFORM(value) USING 'cat' AS b FROM events", "TRANSFORM"),
        ("SELECT from_protobuf(value, 'm', '/etc/d') FROM events", "from_protobuf()"),
    ],
)  # fmt: skip
def test_sql_reads_sources_and_runs_nothing(store: SparkOffline, sql: str, named: str) -> None:
    with pytest.raises(EntityFrameError) as error:
        store.tables_in(sql)
    assert named in error.value.message and "applied sources only" in error.value.message


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM range(3)", set()), ("SELECT explode(array(1)) FROM events", {"events"}),
        ("SELECT x FROM events LATERAL VIEW explode(array(1)) t AS x", {"events"}),
        ("WITH E AS (SELECT 1) SELECT * FROM e", set()), ("WITH e AS (SELECT * FROM e) SELECT * FROM e", {"e"}),
        ("SELECT * FROM (WITH e AS (SELECT 1) SELECT * FROM e) x JOIN e", {"e"}),
    ],
)  # fmt: skip
def test_tables_of_sql_are_those_that_it_does_not_define(store: SparkOffline, sql: str, tables: set[str]) -> None:
    assert store.tables_in(sql) == tables


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT "a""b" FROM t', 'SELECT `a"b` FROM t'), ('SELECT "a`b"', "SELECT `a``b`"),
        ("SELECT 'say \"it''s\"'", "SELECT 'say \"it\\'s\"'"), ("SELECT '' || ''''", "SELECT '' || '\\''"),
        ('SELECT 1 -- "no"\n, `"`', 'SELECT 1 -- "no"\n, `"`'), ("SELECT 'a\\'b', \"c\"", "SELECT 'a\\'b', `c`"),
        ('/* "x" */ SELECT "y"', '/* "x" */ SELECT `y`'),
    ],
)  # fmt: skip
def test_names_in_double_quotes_are_names(sql: str, expected: str) -> None:
    assert with_backquotes(sql) == expected
    assert with_backquotes(expected) == expected


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(private_service: Any) -> Sail:
    return private_service(Sail)


def test_a_server_that_is_restarted_between_two_reads_is_used_again(server: Sail, tmp_path: Path) -> None:
    store = SparkOffline(tmp_path / "offline", remote=server.url)
    assert values(store, ROWS) == EXPECTED

    server.restart(kill=True)

    assert values(store, ROWS) == EXPECTED
    store.close()


def test_a_read_that_loses_its_server_runs_again_or_is_one_error(server: Sail, tmp_path: Path) -> None:
    store = SparkOffline(tmp_path / "offline", remote=server.url, retry_s=1.0)
    result = store.run(REQUEST, {"events": lost_during(ROWS, lambda: server.restart(kill=True))}, spine=FRAME)
    assert result.reader().read_all()["value"].to_pylist() == EXPECTED

    gone = store.run(REQUEST, {"events": lost_during(ROWS, server.kill)}, spine=FRAME)
    with pytest.raises(StorageError, match="respond|lost the session") as caught:
        gone.reader().read_all()
    assert "Traceback" not in str(caught.value) and caught.value.hint
    store.close()


def lost_during(rows: pa.Table, lose: Any) -> Any:
    """Rows of a source; while they are fetched for the first time, after others were sent, the server goes."""
    done: list[bool] = []

    def opened(need: ScanRequest) -> pa.RecordBatchReader:
        def each() -> Iterator[pa.RecordBatch]:
            yield from rows.slice(0, 1).to_batches()
            if not done:
                done.append(True)
                lose()
            yield from rows.slice(1).to_batches()

        return pa.RecordBatchReader.from_batches(rows.schema, each())

    return Batches(rows.schema, opened)


@pytest.mark.parametrize(
    ("remote", "kind", "said"),
    [
        ("sc://127.0.0.1:1", StorageError, "127.0.0.1:1 does not respond: .*refused"),
        ("http://127.0.0.1:1", ConfigError, "no address of Spark Connect"),
        ("sc://127.0.0.1:port", ConfigError, "no address"), ("sc://127.0.0.1:1/;token", ConfigError, "no value"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_said(tmp_path: Path, remote: str, kind: type[AsofError], said: str) -> None:
    with pytest.raises(kind, match=said):
        store = SparkOffline(tmp_path, remote=remote, retry_s=0.2)
        values(store, ROWS)


def test_a_closed_store_is_said_to_be_closed(remote: str, tmp_path: Path) -> None:
    store = SparkOffline(tmp_path, remote=remote)
    values(store, ROWS)
    store.close()
    store.close()

    with pytest.raises(StorageError, match="closed"):
        values(store, ROWS)


def test_settings_that_decide_answers_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="timeZone"):
        SparkOffline(tmp_path, remote="sc://127.0.0.1:1", settings={"spark.sql.session.timeZone": "Asia/Tokyo"})
