"""Folders as they come: what is no data is left out or refused by name, and files of several schemas are united."""

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.dtypes import Bool, Date, Decimal, Float64, Int64, String, Timestamp
from asof.errors import SourceError

AT = datetime(2026, 11, 1, tzinfo=UTC)
USER = Entity(name="user", join_keys=["user_id"])


@pytest.fixture
def store(tmp_path):
    (tmp_path / "feature_store.yaml").write_text("project: files\nregistry: registry.db\n")
    with FeatureStore(tmp_path) as opened:
        yield opened


def rows(**users):
    """Rows of users `u1=…` with a column x."""
    ids = [int(name[1:]) for name in users]
    return pa.table({"user_id": pa.array(ids, pa.int64()), "at": [AT] * len(ids), "x": list(users.values())})


def table(user, x=None, **more):
    columns = {"user_id": pa.array([user], pa.int64()), "at": [AT], **more}
    return pa.table(columns if x is None else {**columns, "x": x})


def write(place: Path, rows):
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, place)


def view_of(path, *fields, **options):
    source = FileSource(str(path), name="rows", timestamp_field="at", **options)
    return FeatureView(name="view", entities=[USER], source=source,
                       schema=[Field("user_id", Int64), *(fields or [Field("x", Float64)])])  # fmt: skip


def answers(store, ids, feature="x"):
    frame = pa.table(
        {"user_id": pa.array(ids, pa.int64()), "event_timestamp": [datetime(2026, 12, 1, tzinfo=UTC)] * len(ids)}
    )
    return store.get_historical_features(frame, [f"view:{feature}"]).to_arrow()[feature].to_pylist()


def refusal(store, view):
    errors = store.plan([view]).errors
    assert len(errors) == 1
    assert errors[0].hint
    return errors[0].found


# -- what a writer leaves behind -----------------------------------------------------------------------------------

NO_DATA = [
    "_temporary/0/part-0.parquet", ".ipynb_checkpoints/part-0-checkpoint.parquet", ".hive-staging_hive_1/part-0.parquet",
    ".part-0.parquet.crc", "_SUCCESS", "_metadata", "_common_metadata", "_x.parquet", ".x.parquet", "README.md",
    "part-9.parquet.tmp", "part-9.parquet._COPYING_", "day=1/_temporary/part-0.parquet",
]  # fmt: skip


@pytest.mark.parametrize("path", ["rows", "rows/**/*.parquet", "ro*"])
@pytest.mark.parametrize("name", NO_DATA)
def test_what_a_writer_left_behind_is_not_read(tmp_path, store, name, path):
    write(tmp_path / "rows/part-1.parquet", rows(u1=1.0))
    write(tmp_path / "rows" / name, rows(u1=9.0, u2=9.0))
    store.apply([view_of(path)])

    assert answers(store, [1, 2]) == [1.0, None]


def test_a_hidden_name_is_read_where_the_path_asks_for_it(tmp_path, store):
    write(tmp_path / "_raw/_part.parquet", rows(u1=1.0))

    store.apply([view_of("_raw/_p*.parquet")])

    assert answers(store, [1]) == [1.0]


@pytest.mark.parametrize("path", ["rows", "rows/*.parquet"])
def test_empty_files_are_left_out(tmp_path, store, path):
    write(tmp_path / "rows/b.parquet", rows(u1=1.0))
    (tmp_path / "rows/a.parquet").write_bytes(b"")
    store.apply([view_of(path)])

    assert answers(store, [1]) == [1.0]


@pytest.mark.parametrize(
    ("path", "said"),
    [("rows/a.parquet", "is empty (0 bytes)"), ("rows", "are empty (0 bytes)"), ("csv", "but csv files"),
     ("named.parquet", "is not a parquet file"), ("text", "is not a parquet file"), ("nothing", "has no parquet files")],
)  # fmt: skip
def test_a_path_without_data_is_refused(tmp_path, store, path, said):
    for folder in ("rows", "csv", "nothing", "text"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rows/a.parquet").write_bytes(b"")
    for name in ("csv/a.csv", "named.parquet", "text/b.parquet"):
        (tmp_path / name).write_text("user_id,at,x\n1,2026-11-01,1\n")
    write(tmp_path / "text/a.parquet", rows(u1=1.0))

    assert said in refusal(store, view_of(path))


@pytest.mark.parametrize("path", ["rows", "rows/*.parquet", "rows/part.parquet", "rows/**"])
@pytest.mark.parametrize("kind", ["delta", "iceberg", "hudi"])
def test_the_files_of_a_table_format_are_refused(tmp_path, store, kind, path):
    place = tmp_path / "rows/part.parquet"
    write(place, rows(u1=1.0))
    if kind == "delta":
        place.unlink()
        write_deltalake(tmp_path / "rows", rows(u1=1.0, u2=2.0))
        DeltaTable(tmp_path / "rows").delete("user_id = 2")
        next((tmp_path / "rows").glob("*.parquet")).rename(place)
    elif kind == "iceberg":
        (tmp_path / "rows/metadata").mkdir()
        (tmp_path / "rows/metadata/v1.metadata.json").write_text("{}")
    else:
        (tmp_path / "rows/.hoodie").mkdir()

    found = refusal(store, view_of(path))

    assert {"delta": "is a Delta table", "iceberg": "is an Iceberg table", "hudi": "is a Hudi table"}[kind] in found


def test_a_delta_table_among_partition_folders_is_refused_from_any_of_them(tmp_path, store):
    write_deltalake(tmp_path / "rows", table(1, [1.0], p=["a"]), partition_by=["p"])

    assert "is a Delta table" in refusal(store, view_of("rows/p=a"))
    assert "is a Delta table" in refusal(store, view_of("."))


# -- Delta logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    ["../outside.parquet", "%2e%2e/outside.parquet", "a/../../outside.parquet", "{folder}/outside.parquet",
     "file://{folder}/outside.parquet", "s3://bucket/x.parquet", "https://host/x.parquet"],
)  # fmt: skip
def test_a_delta_log_that_names_a_file_elsewhere_is_refused(tmp_path, store, named):
    write_deltalake(tmp_path / "rows", rows(u1=1.0))
    write(tmp_path / "outside.parquet", rows(u1=9.0))
    add = {
        "path": named.format(folder=tmp_path),
        "partitionValues": {},
        "size": 1,
        "modificationTime": 0,
        "dataChange": True,
    }
    (tmp_path / "rows/_delta_log/00000000000000000001.json").write_text(json.dumps({"add": add}) + "\n")

    assert "names a file that is not in the table" in refusal(store, view_of("rows", file_format="delta"))


def test_deleted_rows_of_a_delta_table_are_not_served(tmp_path, store):
    write_deltalake(tmp_path / "rows", rows(u1=1.0, u2=2.0))
    DeltaTable(tmp_path / "rows").delete("user_id = 2")
    store.apply([view_of("rows", file_format="delta")])

    assert answers(store, [1, 2]) == [1.0, None]


PARTITIONS = ["a b", "50%", "c%20d", "ü/x", "", None, "01", "a=b"]


@pytest.mark.parametrize("way", ["historical", "online"])
def test_partition_columns_of_a_delta_table_are_columns(tmp_path, store, way):
    ids = list(range(len(PARTITIONS)))
    # Delta keeps an empty text as a null partition.
    wanted = [value or None for value in PARTITIONS]
    data = pa.table({"user_id": pa.array(ids, pa.int64()), "at": [AT] * len(ids), "x": [float(each) for each in ids],
                     "p": PARTITIONS, "n": pa.array([1, None] * 4, pa.int32()), "d": [date(2026, 11, 1)] * 8})  # fmt: skip
    write_deltalake(tmp_path / "rows", data, partition_by=["p", "n", "d"])
    fields = [Field("x", Float64), Field("p", String), Field("n", Int64), Field("d", Date)]
    store.apply([view_of("rows", *fields, file_format="delta")])

    if way == "historical":
        assert answers(store, ids, "p") == wanted
        assert answers(store, ids, "n") == [1, None] * 4
        assert answers(store, ids, "d") == [date(2026, 11, 1)] * 8
        assert answers(store, ids) == [float(each) for each in ids]
        return
    store.materialize(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    found = store.get_online_features(["view:p", "view:n"], [{"user_id": each} for each in ids]).to_dict()
    assert (found["p"], found["n"]) == (wanted, [1, None] * 4)


def test_a_column_that_a_delta_table_got_later_is_null_before(tmp_path, store):
    write_deltalake(tmp_path / "rows", table(1))
    write_deltalake(tmp_path / "rows", table(2, [2.0]), mode="append", schema_mode="merge")
    store.apply([view_of("rows", file_format="delta")])

    assert answers(store, [1, 2]) == [None, 2.0]


# -- partition folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "dtype", "values"),
    [(["p=a b", "p=c%20d", "p=50%25", "p=%C3%BC%2Fx", "p=__HIVE_DEFAULT_PARTITION__"], String, ["a b", "c d", "50%", "ü/x", None]),
     (["p=1", "p=20", "p=-3"], Int64, [1, 20, -3]), (["p=01", "p=2"], String, ["01", "2"]), (["p=01", "p=2"], Int64, [1, 2]),
     (["p=2026-11-01"], Date, [date(2026, 11, 1)]), (["p=1.5", "p=2"], Float64, [1.5, 2.0]), (["p=true"], Bool, [True]),
     (["p=2026-11-01 12%3A00%3A00"], Timestamp, [datetime(2026, 11, 1, 12, tzinfo=UTC)]), (["q=z/p=1", "q=y/p=2"], Int64, [1, 2]),
     (["_p=x/p=1"], Int64, [1])],
)  # fmt: skip
@pytest.mark.parametrize("path", ["rows", "rows/**/*.parquet", "rows/*"])
@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_the_names_of_folders_are_columns(tmp_path, store, folders, dtype, values, path, file_format):
    for number, folder in enumerate(folders):
        if file_format == "parquet":
            write(tmp_path / "rows" / folder / "part.parquet", table(number, [0.5]))
        else:
            (tmp_path / "rows" / folder).mkdir(parents=True)
            (tmp_path / "rows" / folder / "part.csv").write_text(f"user_id,at,x\n{number},{AT.isoformat()},0.5\n")
    path = path.replace("parquet", file_format)
    store.apply([view_of(path, Field("x", Float64), Field("p", dtype), file_format=file_format)])

    assert answers(store, list(range(len(folders))), "p") == values
    assert answers(store, [0]) == [0.5]


def test_undeclared_folders_get_the_narrowest_type_that_keeps_their_text(tmp_path, store):
    for number, folder in enumerate(["y=2026/m=01", "y=2025/m=12"]):
        write(tmp_path / "rows" / folder / "part.parquet", table(number, [0.5]))
    source = FileSource("rows", timestamp_field="at")
    store.apply([FeatureView(name="view", entities=[USER], source=source)])

    assert {field.name: field.dtype for field in store.get_feature_view("view").features} == {
        "x": Float64, "y": Int64, "m": String,
    }  # fmt: skip


def test_a_column_of_the_files_goes_before_the_name_of_a_folder(tmp_path, store):
    write(tmp_path / "rows/x=9/part.parquet", rows(u1=1.0))
    store.apply([view_of("rows")])

    assert answers(store, [1]) == [1.0]


def test_a_folder_that_does_not_fit_is_refused(tmp_path, store):
    write(tmp_path / "rows/p=a/part.parquet", rows(u1=1.0))

    assert "column 'p' of the folders' names does not fit Int64: 'a' is not" in refusal(
        store, view_of("rows", Field("p", Int64))
    )


# -- files of several schemas --------------------------------------------------------------------------------------

INTS, BIG = pa.array([2], pa.int64()), 2**53 + 1
UNIONS = {
    "a column added later": ([None, pa.array([2.5])], Float64, [None, 2.5]),
    "a column dropped later": ([pa.array([2.5]), None], Float64, [2.5, None]),
    "null type first": ([pa.nulls(1), pa.array([2.5])], Float64, [None, 2.5]),
    "null type of text": ([pa.nulls(1), pa.array(["a"])], String, [None, "a"]),
    "null type of times": ([pa.nulls(1), pa.array([AT])], Timestamp, [None, AT]),
    "null type everywhere": ([pa.nulls(1), pa.nulls(1)], Float64, [None, None]),
    "empty first": ([pa.array([], pa.null()), pa.array([2.5])], Float64, [None, 2.5]),
    "int32 and int64": ([pa.array([1], pa.int32()), pa.array([BIG])], Int64, [1, BIG]),
    "int64 and int32": ([pa.array([BIG]), pa.array([1], pa.int32())], Int64, [BIG, 1]),
    "uint32 and int64": ([pa.array([1], pa.uint32()), pa.array([-1])], Int64, [1, -1]),
    "uint64 and int64": ([pa.array([1], pa.uint64()), pa.array([-1])], Int64, [1, -1]),
    "float and double": ([pa.array([0.5], pa.float32()), pa.array([0.1])], Float64, [0.5, 0.1]),
    "double of whole numbers as integers": ([pa.array([3.0]), pa.array([BIG])], Int64, [3, BIG]),
    "integers as double": ([INTS, pa.array([2.5])], Float64, [2.0, 2.5]),
    "decimals": ([pa.array([1], pa.decimal128(5, 2)), pa.array([2], pa.decimal128(9, 4))], Decimal(9, 4), [1, 2]),
    "dates and times": ([pa.array([date(2026, 11, 1)]), pa.array([AT])], Timestamp, [AT, AT]),
    "ns and us": ([pa.array([AT], pa.timestamp("ns", "UTC")), pa.array([AT], pa.timestamp("us"))], Timestamp, [AT, AT]),
    "dictionary and plain": (
        [pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string())],
        String,
        ["a", "b"],
    ),
}


@pytest.mark.parametrize("case", UNIONS)
def test_the_columns_are_those_of_all_files(tmp_path, store, case):
    columns, dtype, values = UNIONS[case]
    for number, column in enumerate(columns):
        made = (
            table(number) if column is None else table(number, pa.nulls(1, column.type) if not len(column) else column)
        )
        write(tmp_path / f"rows/{number}.parquet", made.slice(0, 0) if column is not None and not len(column) else made)
    store.apply([view_of("rows", Field("x", dtype))])

    assert answers(store, list(range(len(columns)))) == values
    store.materialize(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    found = store.get_online_features(["view:x"], [{"user_id": each} for each in range(len(columns))]).to_dict()
    assert found["x"] == values


REFUSED_UNIONS = {
    "text and numbers": ([pa.array(["a"]), INTS], String, "string in 0.parquet, int64 in 1.parquet"),
    "numbers and text": ([INTS, pa.array(["a"])], Int64, "int64 in 0.parquet, string in 1.parquet"),
    "a fraction among integers": (
        [INTS, pa.array([2.5])],
        Int64,
        "does not fit Int64 in row 1: 2.5 is not a whole number",
    ),
    "an integer without a float": ([pa.array([BIG]), pa.array([2.5])], Float64, "does not fit Float64 in row 1"),
    "bool and numbers": ([pa.array([True]), INTS], Int64, "bool in 0.parquet, int64 in 1.parquet"),
}


@pytest.mark.parametrize("case", REFUSED_UNIONS)
def test_files_whose_columns_do_not_unite_are_refused_by_plan(tmp_path, store, case):
    columns, dtype, said = REFUSED_UNIONS[case]
    for number, column in enumerate(columns):
        write(tmp_path / f"rows/{number}.parquet", table(number, column))

    assert said in refusal(store, view_of("rows", Field("x", dtype)))


def test_one_float_file_among_integers_rounds_no_key(tmp_path, store):
    write(tmp_path / "rows/0.parquet", rows(u1=1.0).set_column(0, "user_id", pa.array([BIG])))
    write(tmp_path / "rows/1.parquet", rows(u1=2.0).set_column(0, "user_id", pa.array([4.0])))
    store.apply([view_of("rows")])

    assert answers(store, [BIG, BIG - 1, 4]) == [1.0, None, 2.0]


# -- paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["my rows/a b.parquet", "my rows", "my rows/*.parquet", "my rows/[ab]*.parquet"])
@pytest.mark.parametrize("as_url", [False, True])
def test_spaces_and_urls_are_paths(tmp_path, store, path, as_url):
    write(tmp_path / "my rows/a b.parquet", rows(u1=1.0))
    if as_url and "*" not in path:
        path = (tmp_path / path).as_uri()
    store.apply([view_of(path)])

    assert answers(store, [1]) == [1.0]


@pytest.mark.parametrize("name", ["a[1].parquet", "50%.parquet", "a%20b.parquet", "ü.PARQUET", "what?.parquet"])
def test_a_file_is_the_one_that_is_named(tmp_path, store, name):
    write(tmp_path / "rows" / name, rows(u1=1.0))
    store.apply([view_of(f"rows/{name}")])

    assert answers(store, [1]) == [1.0]
    store.apply([view_of("rows")])
    assert answers(store, [1]) == [1.0]
    store.apply([view_of((tmp_path / "rows" / name).as_uri())])
    assert answers(store, [1]) == [1.0]


@pytest.mark.parametrize("file_format", ["parquet", "csv", "delta"])
def test_a_tilde_is_the_home_folder(tmp_path, store, monkeypatch, file_format):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if file_format == "delta":
        (tmp_path / "home").mkdir()
        write_deltalake(tmp_path / "home/rows", rows(u1=1.0))
    elif file_format == "csv":
        (tmp_path / "home/rows").mkdir(parents=True)
        (tmp_path / "home/rows/a.csv").write_text(f"user_id,at,x\n1,{AT.isoformat()},1\n")
    else:
        write(tmp_path / "home/rows/a.parquet", rows(u1=1.0))
    frame = pa.table({"user_id": [1], "event_timestamp": [datetime(2026, 12, 1, tzinfo=UTC)]})
    pq.write_table(frame, tmp_path / "home/frame.parquet")
    store.apply([view_of("~/rows", file_format=file_format)])

    assert store.get_historical_features("~/frame.parquet", ["view:x"]).to_arrow()["x"].to_pylist() == [1.0]


def test_symbolic_links_are_followed_and_a_circle_of_them_ends(tmp_path, store):
    write(tmp_path / "elsewhere/a.parquet", rows(u1=1.0))
    write(tmp_path / "other.parquet", rows(u2=2.0))
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "rows/b.parquet").symlink_to(tmp_path / "other.parquet")
    (tmp_path / "rows/circle").symlink_to(tmp_path / "rows")
    store.apply([view_of("rows")])

    assert answers(store, [1, 2]) == [1.0, 2.0]


@pytest.mark.parametrize("path", ["rows", "rows/*.parquet"])
def test_a_symbolic_link_to_nothing_is_refused_by_its_name(tmp_path, store, path):
    write(tmp_path / "rows/a.parquet", rows(u1=1.0))
    for name, target in (("b.parquet", "gone.parquet"), ("b.parquet", "b.parquet")):
        (tmp_path / "rows" / name).unlink(missing_ok=True)
        (tmp_path / "rows" / name).symlink_to(tmp_path / "rows" / target)

        assert "b.parquet is a symbolic link to nothing" in str(store.plan([view_of(path)]).errors[0])


def test_a_repository_in_a_folder_with_wildcards_in_its_name(tmp_path):
    place = tmp_path / "shop [1]*"
    place.mkdir()
    (place / "feature_store.yaml").write_text("project: files\nregistry: registry.db\n")
    write(place / "rows/a.parquet", rows(u1=1.0))
    with FeatureStore(place) as store:
        store.apply([view_of("rows/*.parquet")])

        assert answers(store, [1]) == [1.0]


def test_a_file_that_goes_away_between_plan_and_read_is_one_clear_error(tmp_path, store):
    write(tmp_path / "rows/a.parquet", rows(u1=1.0))
    store.apply([view_of("rows")])
    shutil.rmtree(tmp_path / "rows")

    with pytest.raises(SourceError, match="there is no file"):
        answers(store, [1])


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_a_column_with_another_case_in_some_files_is_refused_by_name(store, tmp_path, file_format):
    def put(name, **columns):
        place = tmp_path / "rows" / f"{name}.{file_format}"
        rows = table(1, **{each: [value] for each, value in columns.items()})
        if file_format == "parquet":
            write(place, rows)
        else:
            place.parent.mkdir(exist_ok=True)
            pacsv.write_csv(rows, place)

    put("a", x=1.0, y=5.0)
    view = view_of("rows", file_format=file_format)
    store.apply([view])
    put("b", X=2.0, y=6.0)

    found = refusal(store, view)
    assert f"its files name a column in two ways: 'x' in 'a.{file_format}', 'X' in 'b.{file_format}'" in found
    with pytest.raises(SourceError, match="name a column in two ways"):
        answers(store, [1])
    with pytest.raises(SourceError, match="name a column in two ways"):
        store.materialize()
    # Columns that nothing reads may differ, and two in one file are two columns.
    assert not store.plan([view_of("rows", Field("y", Float64), file_format=file_format)]).errors
    put("c", x=3.0, X=4.0, y=7.0)
    assert not store.plan([view]).errors
