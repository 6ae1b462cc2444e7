"""CSV files: each text becomes the value that it says, or is refused by row and name, on every way that reads files."""

import bz2
import gzip
from datetime import UTC, date, datetime
from decimal import Decimal as PyDecimal

import pyarrow as pa
import pytest
from click.testing import CliRunner

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.dtypes import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)  # fmt: skip
from asof.errors import AsofError, EntityFrameError, SourceError
from asof.values.text_columns import Narrowest, fit_text

TIMES = "2026-11-01T00:00:00Z"
REFUSED = object()


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


FITS = [
    # declared, text, value
    (Int64, "1", 1), (Int64, "-0", 0), (Int64, "+1", 1), (Int64, "01234", 1234), (Int64, " 7 ", 7), (Int64, "1.0", 1),
    (Int64, "1e5", 100_000), (Int64, "9223372036854775807", 2**63 - 1), (Int64, "-9223372036854775808", -(2**63)),
    (Int64, "9007199254740993", 2**53 + 1), (Int64, "9007199254740993.0", 2**53 + 1),
    (Int64, "9223372036854775808", REFUSED), (Int64, "1.5", REFUSED), (Int64, "0x1F", REFUSED), (Int64, "1,000", REFUSED),
    (Int64, "1_000", REFUSED), (Int64, "NA", REFUSED), (Int64, "null", REFUSED), (Int64, "nan", REFUSED),
    (Int64, "", REFUSED), (Int64, "true", REFUSED), (Int64, "1e999999999", REFUSED), (Int64, "१", REFUSED),
    (Int64, "9" * 5000, REFUSED), (Int64, "1-2", REFUSED), (Int32, "2147483648", REFUSED), (Int32, "2147483647.0", 2**31 - 1),
    (Float64, "1.5", 1.5), (Float64, "1", 1.0), (Float64, "1e5", 1e5), (Float64, "-0", -0.0), (Float64, ".5", 0.5),
    (Float64, "0.1", 0.1), (Float64, "inf", float("inf")), (Float64, "-Infinity", float("-inf")), (Float64, " 2.5", 2.5),
    (Float64, "9007199254740993.5", 9007199254740994.0), (Float64, "1e22", 1e22), (Float64, "9007199254740992", 2.0**53),
    (Float64, "9007199254740993", REFUSED), (Float64, "1e400", REFUSED), (Float64, "1,5", REFUSED), (Float64, "NA", REFUSED),
    (Float64, "0x1p3", REFUSED), (Float64, "null", REFUSED), (Float64, "", REFUSED), (Float64, "1.5.2", REFUSED),
    (Float32, "16777217", REFUSED), (Float32, "16777216", 2.0**24), (Float32, "0.5", 0.5), (Float32, "1e39", REFUSED),
    (Bool, "true", True), (Bool, "False", False), (Bool, "TRUE", True), (Bool, "yes", REFUSED), (Bool, "no", REFUSED),
    (Bool, "1", REFUSED), (Bool, "0", REFUSED), (Bool, "t", REFUSED), (Bool, "", REFUSED),
    (Decimal(10, 2), "1.50", PyDecimal("1.50")), (Decimal(10, 2), "1.5", PyDecimal("1.50")),
    (Decimal(10, 2), "1.555", REFUSED), (Decimal(10, 2), "123456789.00", REFUSED), (Decimal(38, 0), "9" * 38, PyDecimal("9" * 38)),
    (Decimal(10, 2), "NaN", REFUSED), (Decimal(10, 2), "1e999999999", REFUSED),
    (String, "01234", "01234"), (String, " x ", " x "), (String, "NA", "NA"), (String, "null", "null"), (String, "", ""),
    (String, 'say "hi", you', 'say "hi", you'), (String, "a\nb", "a\nb"), (String, "1.50", "1.50"), (String, "yes", "yes"),
    (String, "31/12/2026", "31/12/2026"), (String, "ü€😀", "ü€😀"),
    (Bytes, "ab", b"ab"),
    (Date, "2026-12-31", date(2026, 12, 31)), (Date, "31/12/2026", REFUSED), (Date, "12/31/2026", REFUSED),
    (Date, "2026-02-30", REFUSED), (Date, "20261231", REFUSED), (Date, "2026-12-31T00:00:00", REFUSED),
    (Timestamp, "2026-12-31", utc(2026, 12, 31)), (Timestamp, "2026-12-31 10:00", utc(2026, 12, 31, 10)),
    (Timestamp, "2026-12-31T10:00:00.5+02:00", utc(2026, 12, 31, 8, 0, 0, 500_000)),
    (Timestamp, "2026-12-31 10:00:00 UTC", utc(2026, 12, 31, 10)),
    (Timestamp, "2026-12-31T10:00:00.123456789Z", utc(2026, 12, 31, 10, 0, 0, 123_456)),
    (Timestamp, "31/12/2026", REFUSED), (Timestamp, "12/31/2026 10:00", REFUSED), (Timestamp, "1700000000", REFUSED),
    (Timestamp, "2026-13-01", REFUSED), (Timestamp, "10:00", REFUSED), (Timestamp, "0000-01-01", REFUSED),
    (Json, '{"a": 1}', '{"a": 1}'), (Json, "{bad", REFUSED), (Json, "NaN", REFUSED),
    (Array(Int64), "[1, null, 3]", [1, None, 3]), (Array(Int64), "[1.5]", REFUSED), (Array(Int64), "1,2", REFUSED),
    (Array(String), '["a", ""]', ["a", ""]), (Embedding(2), "[0.5, 1]", [0.5, 1.0]), (Embedding(2), "[0.5]", REFUSED),
]  # fmt: skip


def ids(cases):
    return [f"{case[0]}-{case[1]!r:.20}" for case in cases]


@pytest.mark.parametrize("company", [[], [None], ["1"]], ids=["alone", "beside-null", "beside-another"])
@pytest.mark.parametrize(("dtype", "text", "value"), FITS, ids=ids(FITS))
def test_a_text_is_the_value_that_it_says_or_a_misfit(dtype, text, value, company):
    if company == ["1"]:
        company = {"Int64": ["5"], "Int32": ["5"], "Float64": ["5.5"], "Timestamp": ["2026-01-01T00:00:00Z"],
                   "Bool": ["true"]}.get(dtype.name, [None])  # fmt: skip

    fitted, misfits = fit_text(pa.array([*company, text], pa.string()), dtype)

    assert fitted.type == dtype.arrow()
    if value is REFUSED:
        assert [row for row, _ in misfits] == [len(company)]
        assert not fitted[-1].is_valid
    else:
        assert misfits == []
        assert fitted[-1].as_py() == value
        assert str(fitted[-1].as_py()) == str(value)


NARROWEST = [
    (["1", "2"], Int64), (["-5", "0"], Int64), (["9223372036854775807"], Int64), (["9223372036854775808"], String),
    (["01234"], String), (["+1"], String), (["-0"], Float64), (["1e5"], String), (["1 "], String), (["1,000"], String),
    (["1", "1.5"], Float64), (["1.0", "1.5"], Float64), (["1", "1.0"], String), (["1.50"], String), (["0.1", "-2.5"], Float64),
    (["1e-07"], Float64), (["1e+16"], Float64), (["nan", "1.5"], Float64), (["9007199254740993", "0.5"], String),
    (["0x1F"], String), (["1_000"], String),
    (["true", "false"], Bool), (["True"], String), (["yes", "no"], String), (["0", "1"], Int64), (["true", "1"], String),
    (["2026-11-30T12:00:00Z"], Timestamp), (["2026-11-30 12:00:00", "2026-11-30 12:00:00.123"], Timestamp),
    (["2026-11-30T12:00:00Z", "2026-11-30T12:00:00"], String), (["2026-11-30T12:00:00+02:00"], String),
    (["2026-11-30T12:00:00+00:00"], Timestamp), (["2026-02-30T12:00:00Z"], String), (["31/12/2026"], String),
    (["2026-11-30"], String), (["2026-11-30T12:00:00.1234567Z"], String),
    (["NA", "1"], String), (["null"], String), ([""], String), ([None], String), ([], String), ([None, "1"], Int64),
]  # fmt: skip


@pytest.mark.parametrize("late", [0, 30_000], ids=["at-once", "after-30000-rows"])
@pytest.mark.parametrize(("texts", "dtype"), NARROWEST, ids=[f"{texts}"[:40] for texts, _ in NARROWEST])
def test_an_undeclared_column_gets_the_narrowest_type_in_which_every_value_writes_back(texts, dtype, late):
    narrowest = Narrowest()
    if late and texts:
        narrowest.look(pa.array(texts[:1] * late, pa.string()))
    narrowest.look(pa.array(texts, pa.string()))

    assert narrowest.dtype == dtype


# -- through the store ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    (tmp_path / "feature_store.yaml").write_text("project: csv\nregistry: registry.db\n")
    with FeatureStore(tmp_path) as opened:
        yield opened


USER = Entity(name="user", join_keys=["user_id"])


def write(tmp_path, lines, name="rows.csv"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")


def view_of(*fields, path="rows.csv", source_schema=(), **options):
    source = FileSource(path, name="rows", timestamp_field="at", schema=list(source_schema) or None, **options)
    return FeatureView(name="view", entities=[USER], source=source, schema=[Field("user_id", Int64), *fields])


def answers(store, ids, feature="view:x"):
    frame = pa.table({"user_id": pa.array(ids, pa.int64()), "event_timestamp": [utc(2026, 12, 1)] * len(ids)})
    return store.get_historical_features(frame, [feature]).to_arrow()[feature.split(":")[1]].to_pylist()


def test_whole_numbers_that_turn_into_fractions_after_20000_rows_keep_them(tmp_path, store):
    rows = [f"{number},{TIMES},{number}" for number in range(20_500)]
    write(tmp_path, ["user_id,at,x", *rows, f"99999,{TIMES},1.5"])
    store.apply([view_of(Field("x", Float64))])

    assert answers(store, [99_999, 7]) == [1.5, 7.0]
    store.materialize(utc(2026, 10, 1), utc(2026, 12, 1))
    online = store.get_online_features(["view:x"], [{"user_id": 99_999}, {"user_id": 20_499}]).to_dict()
    assert online["x"] == [1.5, 20_499.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", "yes"), ("31/12/2026", "31/12/2026"), ("01234", "01234"), ("NA", "NA"), ('"say ""hi"""', 'say "hi"'),
     ("", None), ('""', ""), (" x ", " x "), ("5\" pipe", '5" pipe'), ("1.50", "1.50"), ('"a\nb"', "a\nb"), ("nan", "nan")],
)  # fmt: skip
@pytest.mark.parametrize("way", ["historical", "online", "sample", "sql", "aggregated"])
def test_text_stays_the_text_that_the_file_has(tmp_path, store, text, value, way):
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},{text}", f"2,{TIMES},other"])
    view = view_of(Field("x", String))
    if way == "aggregated":
        from asof import Aggregation

        view = FeatureView(name="view", entities=[USER], source=view.source, schema=[Field("x", String)],
                           aggregations=[Aggregation(column="x", function="last", name="x_last")])  # fmt: skip
        store.apply([view])
        assert answers(store, [1], "view:x_last") == [value]
        return
    store.apply([view])
    if way == "historical":
        assert answers(store, [1, 2]) == [value, "other"]
    elif way == "online":
        store.materialize(utc(2026, 10, 1), utc(2026, 12, 1))
        assert store.get_online_features(["view:x"], [{"user_id": 1}]).to_dict()["x"] == [value]
    elif way == "sample":
        rows = store.sample("view", n=10).to_arrow().to_pylist()
        assert {row["user_id"]: row["x"] for row in rows} == {1: value, 2: "other"}
    else:
        frame = 'SELECT user_id, "at" AS event_timestamp, x AS label FROM rows ORDER BY user_id'
        table = store.get_historical_features(frame, ["view:x"]).to_arrow()
        assert table["label"].to_pylist() == [value, "other"] == table["x"].to_pylist()


def test_a_type_declared_by_the_source_goes_before_what_the_text_looks_like(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},01234", f"2,{TIMES},5"])
    source = FileSource(
        "rows.csv", timestamp_field="at", schema=[Field("user_id", Int64), Field("at", Timestamp), Field("x", String)]
    )
    store.apply([FeatureView(name="view", entities=[USER], source=source)])

    assert store.get_feature_view("view").features == (Field("x", String),)
    assert answers(store, [1, 2]) == ["01234", "5"]


@pytest.mark.parametrize(
    ("dtype", "text", "said"),
    [(Int64, "1.5", "'1.5' is not a whole number (Int64)"), (Float64, "NA", "'NA' is not a number (Float64)"),
     (Bool, "yes", "'yes' is not true or false (Bool)"), (Date, "31/12/2026", "'31/12/2026' is not a date"),
     (Int64, "9223372036854775808", "is outside Int64")],
)  # fmt: skip
def test_plan_names_the_row_and_the_value_that_does_not_fit(tmp_path, store, dtype, text, said):
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},", f"2,{TIMES},{text}"])

    errors = store.plan([view_of(Field("x", dtype))]).errors

    assert len(errors) == 1
    assert f"column 'x' does not fit {dtype} in row 2: " in errors[0].found
    assert said in errors[0].found
    assert "rows.csv" in errors[0].found


def test_a_value_that_comes_later_and_does_not_fit_is_refused_at_the_read(tmp_path, store):
    write(tmp_path, ["user_id,at,x,y", f"1,{TIMES},1,2"])
    store.apply([view_of(Field("x", Int64)), FeatureView(
        name="other", entities=[USER], source=view_of(Field("x", Int64)).source, schema=[Field("user_id", Int64), Field("y", Int64)]
    )])  # fmt: skip
    write(tmp_path, ["user_id,at,x,y", f"1,{TIMES},1,2", f"2,{TIMES},1.5,3"])

    with pytest.raises(SourceError, match=r"column 'x' does not fit Int64 in row 2: '1.5' is not a whole number"):
        answers(store, [1])
    # A read that does not ask for the column is not disturbed by it.
    assert answers(store, [1, 2], "other:y") == [2, 3]
    with pytest.raises(SourceError, match="row 2"):
        store.materialize(utc(2026, 10, 1), utc(2026, 12, 1), ["view"])


def test_views_that_declare_one_column_in_two_ways_are_told_to_declare_it_once(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},1"])
    first = view_of(Field("x", String))
    second = FeatureView(name="second", entities=[USER], source=first.source, schema=[Field("x", Int64)])

    errors = store.plan([first, second]).errors

    # Whichever comes first, the other one is told.
    assert {error.object for error in errors} == {"feature view 'view'"}
    assert any("schema= of the source" in error.hint for error in errors)


FILES = {
    "byte order mark": b"\xef\xbb\xbfuser_id,at,x\n1,%s,a\n",
    "carriage returns": b"user_id,at,x\r\n1,%s,a\r\n",
    "no last line end": b"user_id,at,x\n1,%s,a",
    "blank lines": b"user_id,at,x\n\n1,%s,a\n\n",
    "semicolons": b"user_id;at;x\n1;%s;a\n",
    "tabs": b"user_id\tat\tx\n1\t%s\ta\n",
    "quoted header": b'"user_id","at","x"\n"1","%s","a"\n',
    "other order": b"x,at,more,user_id\na,%s,,1\n",
    "a column without a name": b",user_id,at,x\n0,1,%s,a\n",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("packed", [("rows.csv", bytes), ("rows.csv.gz", gzip.compress), ("rows.CSV.bz2", bz2.compress)],
                         ids=["plain", "gzip", "bzip2"])  # fmt: skip
def test_every_usual_way_of_writing_a_file_is_read(tmp_path, store, file, packed):
    name, pack = packed
    (tmp_path / name).write_bytes(pack(FILES[file].replace(b"%s", TIMES.encode())))
    store.apply([view_of(Field("x", String), path=name)])

    assert answers(store, [1]) == ["a"]


NO_CSV = {
    "empty": (b"", "is empty"),
    "only line ends": (b"\n\n", "is empty"),
    "utf-16": ("user_id,at,x\n1,2,ä\n".encode("utf-16"), "UTF-16"),
    "latin-1 text": (f"user_id,at,x\n1,{TIMES},ä\n".encode("latin-1"), "is not UTF-8 text in row 1"),
    "latin-1 header": (f"user_id,at,ä\n1,{TIMES},x\n".encode("latin-1"), "is not UTF-8 text"),
    "too many fields": (f"user_id,at,x\n1,{TIMES},a\n1,{TIMES},a,b\n".encode(), "row 2 of"),
    "too few fields": (f"user_id,at,x\n1,{TIMES}\n".encode(), "has 2 fields, and the header has 3"),
    "a name twice": (f"user_id,at,x,x\n1,{TIMES},1,2\n".encode(), "has 'x' more than once"),
    "an open quote": (f'user_id,at,x\n1,{TIMES},"a\n2,{TIMES},b\n'.encode(), "a quote that nothing closes"),
    "text after a quote": (f'user_id,at,x\n1,{TIMES},"a"b\n'.encode(), "text after a closing quote in row 1"),
    "text after an empty quote": (f'user_id,at,x\n1,{TIMES},""b\n'.encode(), "text after a closing quote"),
    "gzip": (gzip.compress(b"user_id,at,x\n"), "compressed with gzip"),
    "parquet": (b"PAR1....PAR1", "a Parquet file"),
    "binary": (b"user_id,at\0\0\0,x\n", "binary"),
}


@pytest.mark.parametrize("file", NO_CSV)
def test_what_is_no_csv_file_is_refused_by_name(tmp_path, store, file):
    content, said = NO_CSV[file]
    (tmp_path / "rows.csv").write_bytes(content)

    errors = store.plan([view_of(Field("x", String))]).errors

    assert len(errors) == 1
    assert said in errors[0].found
    assert errors[0].hint
    (tmp_path / "frame.csv").write_bytes(content)
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},a"])
    store.apply([view_of(Field("x", String))])
    with pytest.raises(EntityFrameError) as caught:
        store.get_historical_features(tmp_path / "frame.csv", ["view:x"])
    assert said in caught.value.message


def test_a_header_alone_is_no_rows_of_the_declared_types(tmp_path, store):
    write(tmp_path, ["user_id,at,x"])
    store.apply([view_of(Field("x", Float64))])

    assert answers(store, [1]) == [None]
    store.materialize(utc(2026, 10, 1), utc(2026, 12, 1))
    assert store.get_online_features(["view:x"], [{"user_id": 1}]).to_dict()["x"] == [None]


def test_files_of_a_folder_are_read_by_the_names_of_their_columns(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},1"], "rows/a.csv")
    write(tmp_path, ["y,x,at,user_id", f"z,2.5,{TIMES},2"], "rows/b.csv")
    write(tmp_path, ["user_id,at", f"3,{TIMES}"], "rows/c.csv")
    (tmp_path / "rows/d.csv").write_bytes(b"")
    store.apply([view_of(Field("x", Float64), Field("y", String), path="rows", file_format="csv")])

    assert answers(store, [1, 2, 3]) == [1.0, 2.5, None]
    assert answers(store, [1, 2, 3], "view:y") == [None, "z", None]


def test_of_equal_rows_in_csv_files_the_last_one_wins(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},9", f"1,{TIMES},3"], "rows/a.csv")
    write(tmp_path, ["user_id,at,x", f"1,{TIMES},5", f"1,{TIMES},4"], "rows/b.csv")
    store.apply([view_of(Field("x", Int64), path="rows/*.csv")])

    assert answers(store, [1]) == [4]


def test_the_labels_of_a_csv_frame_are_what_they_were(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"7,{TIMES},a"])
    store.apply([view_of(Field("x", String))])
    rows = [f"7,2026-12-01,1,yes,01,{number}," for number in range(20_500)]
    write(
        tmp_path,
        ["user_id,event_timestamp,label,said,code,whole,empty", *rows, '7,2026-12-01,1.5,no,02,5,""'],
        "frame.csv",
    )

    table = store.get_historical_features(str(tmp_path / "frame.csv"), ["view:x"]).to_arrow()

    last = table.slice(20_500).to_pylist()[0]
    assert last == {"user_id": 7, "event_timestamp": utc(2026, 12, 1), "label": 1.5, "said": "no", "code": "02",
                    "whole": 5, "empty": "", "x": "a"}  # fmt: skip
    assert table["empty"][0].as_py() is None


@pytest.mark.parametrize(
    ("line", "said"),
    [("1.5,2026-12-01", "column 'user_id' does not fit Int64 in row 2: '1.5'"),
     ("1,31/12/2026", "column 'event_timestamp' does not fit Timestamp in row 2: '31/12/2026'"),
     (",2026-12-01", "null in 1 row")],
)  # fmt: skip
def test_a_csv_frame_that_does_not_fit_is_refused_by_row(tmp_path, store, line, said):
    write(tmp_path, ["user_id,at,x", f"7,{TIMES},a"])
    store.apply([view_of(Field("x", String))])
    write(tmp_path, ["user_id,event_timestamp", "7,2026-12-01", line], "frame.csv")

    with pytest.raises(EntityFrameError) as caught:
        store.get_historical_features(tmp_path / "frame.csv", ["view:x"]).to_arrow()

    assert said in caught.value.message


def test_the_command_line_reads_csv_in_the_same_way(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"7,{TIMES},01234"])
    store.apply([view_of(Field("x", String))])
    write(tmp_path, ["user_id,event_timestamp,label", "7,2026-12-01,01", "7,2026-12-01,1.50"], "frame.csv")

    args = ["-C", str(tmp_path), "get", "historical", "--entities", str(tmp_path / "frame.csv"),
            "--features", "view:x", "--out", str(tmp_path / "out.csv")]  # fmt: skip
    result = CliRunner().invoke(cli, args, obj=CliContext(), catch_exceptions=False)

    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",")[2:] for line in lines[1:]] == [['"01"', '"01234"'], ['"1.50"', '"01234"']]


def test_a_pushed_csv_file_is_fitted_to_the_schema_of_its_source(tmp_path, store):
    from asof import PushSource

    fields = [Field("user_id", Int64), Field("at", Timestamp), Field("code", String), Field("x", Float64)]
    source = PushSource("pushed", schema=fields, timestamp_field="at")
    store.apply([FeatureView(name="pushes", entities=[USER], source=source, schema=[fields[0], *fields[2:]])])
    now = datetime.now(UTC).replace(microsecond=0).isoformat()
    write(tmp_path, ["user_id,at,code,x", f"1,{now},01234,1"], "push.csv")
    args = ["-C", str(tmp_path), "push", "pushed", "--file", str(tmp_path / "push.csv")]

    result = CliRunner().invoke(cli, args, obj=CliContext(), catch_exceptions=False)

    assert result.exit_code == 0, result.output
    found = store.get_online_features(["pushes:code", "pushes:x"], [{"user_id": 1}]).to_dict()
    assert (found["code"], found["x"]) == (["01234"], [1.0])


def test_a_batch_source_in_csv_is_fitted_to_the_schema_of_the_stream(tmp_path, store):
    from asof import PushSource

    write(tmp_path, ["user_id,at,code,x", f"1,{TIMES},01234,1", f"2,{TIMES},5,2.5"], "old.csv")
    fields = [Field("user_id", Int64), Field("at", Timestamp), Field("code", String), Field("x", Float64)]
    source = PushSource(
        "pushed", schema=fields, timestamp_field="at", batch_source=FileSource("old.csv", timestamp_field="at")
    )
    store.apply([FeatureView(name="view", entities=[USER], source=source, schema=[fields[0], *fields[2:]])])
    store.backfill("pushed")

    assert answers(store, [1, 2], "view:code") == ["01234", "5"]
    assert answers(store, [1, 2]) == [1.0, 2.5]


def test_errors_of_csv_files_are_ours(tmp_path, store):
    write(tmp_path, ["user_id,at,x", f"7,{TIMES},a"])
    store.apply([view_of(Field("x", String))])

    with pytest.raises(AsofError, match="there is no file"):
        store.get_historical_features(tmp_path / "nowhere.csv", ["view:x"])
