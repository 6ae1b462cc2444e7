"""Sources as definitions: the names that files give them, and times that are named as Asof calls them."""

import pickle

import pytest

from asof import Entity, FeatureView, Field, FileSource, LogSource
from asof.decoding.bounds import MessageBounds
from asof.decoding.codecs import codec_of
from asof.definitions import project_of
from asof.dtypes import Float64, Int64, Timestamp
from asof.errors import DefinitionError
from asof.planning import resolve
from asof.sources.protocol import SourceColumn

DERIVED = {
    "clicks.csv": "clicks",
    "clicks.csv.gz": "clicks",
    "../source/users.parquet": "users",
    "trips/*.parquet": "trips",
    "data/trips/**/*.parquet": "trips",
    "trips/2026-*/part-[0-9].parquet": "trips",
    "lake/trips/": "trips",
    "trips.PARQUET": "trips",
    "rides_delta": "rides_delta",
}


@pytest.mark.parametrize(("path", "name"), DERIVED.items())
def test_a_name_follows_from_the_last_plain_part_of_the_path(path, name):
    assert FileSource(path, timestamp_field="at").name == name


@pytest.mark.parametrize(
    "path",
    ["my trips.parquet", "trips.v2.parquet", "*.parquet", "../*.parquet", ".", "2026/*.parquet", "lake/year=2026",
     "a__b.parquet", "fährten.parquet", "file:///data/a%20b.parquet"],
)  # fmt: skip
def test_a_path_that_gives_no_plain_name_says_that_name_is_needed(path):
    with pytest.raises(DefinitionError) as caught:
        FileSource(path, timestamp_field="at")

    assert repr(path) in caught.value.message
    assert "give name=" in caught.value.hint
    assert FileSource(path, name="trips", timestamp_field="at").name == "trips"


@pytest.mark.parametrize("named", ["ts", "event_time"])
def test_event_and_created_time_may_be_named_as_field_mapping_calls_them(named):
    created = {"ts": "wr", "event_time": "written"}[named]
    source = FileSource(
        "rows.parquet", timestamp_field=named, created_timestamp_column=created,
        field_mapping={"ts": "event_time", "wr": "written", "usr": "user_id"},
        schema=[Field("usr", Int64), Field("ts", Timestamp), Field("wr", Timestamp), Field("x", Float64)],
    )  # fmt: skip
    user = Entity(name="user", join_keys=["user_id"])
    view = FeatureView(name="rows", entities=[user], source=source)
    described = [
        SourceColumn("usr", Int64, "int64"), SourceColumn("ts", Timestamp, "timestamp"), SourceColumn("wr", Timestamp, "timestamp"),
        SourceColumn("x", Float64, "double"),
    ]  # fmt: skip

    resolved, findings = resolve(project_of([view]), {"rows": described})

    assert [finding for finding in findings if finding.severity == "error"] == []
    assert (source.timestamp_field, source.created_timestamp_column) == ("ts", "wr")
    assert [field.name for field in resolved.views["rows"].features] == ["x"]


def test_a_column_that_is_renamed_keeps_its_own_name_before_a_mapped_one():
    source = FileSource("rows.parquet", timestamp_field="a", field_mapping={"a": "b", "b": "a"})

    assert source.timestamp_field == "a"


def test_a_source_is_pickled_without_the_decoder_that_was_built_for_it():
    fields = [Field("user", Int64), Field("at", Timestamp)]
    source = LogSource("clicks", schema=fields, timestamp_field="at", message_format="json")
    built = codec_of(source, MessageBounds())

    copy = pickle.loads(pickle.dumps(source))

    assert copy == source
    assert codec_of(source, MessageBounds()) is built
    assert codec_of(copy, MessageBounds()) is not built
