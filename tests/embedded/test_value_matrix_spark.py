"""The matrix of values on Spark: files in every physical type, and what was pushed, by each way out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore, FeatureView, Field, FileSource
from asof.errors import AsofError
from asof.types import Array, Json
from tests.matrix.batch import WRITERS, assert_labels_came_back, holds, read_in_one_row
from tests.matrix.gaps import ON_SPARK
from tests.matrix.outcomes import check
from tests.matrix.runs import AT
from tests.matrix.wide import THING, pushed_in_one_row
from tests.sail import running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("matrix")
    with running() as remote:
        sections = f"project: matrix\noffline_store: {{type: spark, remote: '{remote}'}}\n"
        (folder / "feature_store.yaml").write_text(sections, encoding="utf-8")
        with FeatureStore(folder, clock=lambda: AT) as store:
            yield store


@pytest.mark.parametrize("kind", WRITERS)
def test_values_of_a_wide_file_leave_spark_as_they_are(store: FeatureStore, kind: str, tmp_path: Path) -> None:
    (tmp_path / "tries").mkdir()
    cases = holds(WRITERS[kind], tmp_path / "tries")
    found = read_in_one_row(store, kind, tmp_path, cases)

    assert len(found) == 8 and all(len(cells) > 70 for cells in found.values())
    for way, cells in found.items():
        check(f"{kind} file, {way}", cells, ON_SPARK)


def test_pushed_values_and_labels_leave_spark_as_they_are(store: FeatureStore) -> None:
    for way, cells in pushed_in_one_row(store).items():
        check(f"one row, {way}", cells, ON_SPARK)
    assert_labels_came_back(store, "one_row_view:c0", "arrow")


def test_structs_and_maps_are_the_json_of_the_other_engines(store: FeatureStore, tmp_path: Path) -> None:
    value = {"a": None, "b": b"\xff", "c": AT, "d": [{"e": 0.1}], "f": time(1, 2, 3)}
    kind = pa.struct([
        ("a", pa.int64()), ("b", pa.binary()), ("c", pa.timestamp("us", "UTC")),
        ("d", pa.list_(pa.struct([("e", pa.float64())]))), ("f", pa.time64("us")),
    ])  # fmt: skip
    rows = {"user": [1, 2], "at": pa.array([AT, AT]), "s": pa.array([value, None], kind), "l": [[{"a": None}], None]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    source = FileSource(str(tmp_path / "rows.parquet"), name="structs", timestamp_field="at")
    view = FeatureView("json", entities=[THING], source=source, schema=[Field("s", Json), Field("l", Array(Json))])
    store.apply([THING, source, view])
    frame = pa.table({"user": [1, 2], "event_timestamp": pa.array([AT, AT])})

    table = store.get_historical_features(frame, ["json:s", "json:l"]).to_arrow()

    text = '{"a":null,"b":"\\\\xFF","c":"2026-01-01 13:00:00+00","d":[{"e":0.1}],"f":"01:02:03"}'
    assert table["s"].to_pylist() == [text, None]
    assert table["l"].to_pylist() == [['{"a":null}'], None]


def test_a_number_in_a_struct_that_json_lacks_is_refused_by_name(store: FeatureStore, tmp_path: Path) -> None:
    rows = {"user": [1], "at": pa.array([AT]), "s": [{"a": math.nan}]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    source = FileSource(str(tmp_path / "rows.parquet"), name="not_json", timestamp_field="at")
    view = FeatureView("not_json_view", entities=[THING], source=source, schema=[Field("s", Json)])
    store.apply([THING, source, view])

    with pytest.raises(AsofError, match="'s' of source 'not_json' holds a value that is no Json"):
        store.get_historical_features(
            pa.table({"user": [1], "event_timestamp": pa.array([AT])}), ["not_json_view:s"]
        ).to_arrow()
