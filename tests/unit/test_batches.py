"""The distinct keys of a batch are found, whatever the keys' types and number."""

import pyarrow as pa

from asof.definitions import Entity, FeatureView, Field, FileSource
from asof.flows.rows.batch import keyed
from asof.types import Int64, String, Timestamp
from asof.values.packing import key_values

SOURCE = FileSource("rows.parquet", timestamp_field="at")


def view(*keys):
    entity = [Entity("thing", [field.name for field in keys])] if keys else []
    return FeatureView("v", source=SOURCE, entities=entity, schema=[*keys, Field("x", Int64)])


def keys_of_rows(view, rows):
    found = keyed(view, rows)
    return [key_values(found.keys[row]) for row in found.rows.tolist()]


def test_one_key_column():
    rows = pa.table({"id": [7, 8, 7]})

    assert keys_of_rows(view(Field("id", Int64)), rows) == [[7], [8], [7]]


def test_several_key_columns_in_the_views_order():
    rows = pa.table({"b": ["x", "y", "x", "x"], "a": [1, 1, 2, 1], "c": [5, 5, 5, 5]})

    found = keyed(view(Field("a", Int64), Field("b", String), Field("c", Int64)), rows)

    assert len(found.keys) == 3
    assert [key_values(found.keys[row]) for row in found.rows] == [[1, "x", 5], [1, "y", 5], [2, "x", 5], [1, "x", 5]]


def test_a_view_without_entities_has_one_key():
    assert keys_of_rows(view(), pa.table({"x": [1, 2]})) == [[], []]


def test_times_are_keys_as_microseconds():
    rows = pa.table({"at": pa.array([1500], pa.timestamp("ms"))})

    assert keys_of_rows(view(Field("at", Timestamp)), rows) == [[1_500_000]]


def test_no_rows_have_no_keys():
    assert (
        keyed(
            view(Field("a", Int64), Field("b", Int64)),
            pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.int64())}),
        ).keys
        == []
    )
