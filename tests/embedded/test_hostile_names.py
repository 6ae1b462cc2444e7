"""Names like Asof's own, an engine's or SQL's, for every role of every source: values are right, whatever their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from asof import (
    Aggregation,
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    on_demand_feature_view,
)
from asof.definitions import Source
from asof.errors import CheckFailed, EntityFrameError, FeatureNameCollision, SourceError
from asof.types import Float64, Int64, String, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
US = pa.timestamp("us", "UTC")

NAMES = [
    "rowid", "file_row_number", "file_index", "filename", "v__x", "asof_date", "why", "event_time", "x",
    "__index_level_0__", "ctid", "xmin", "asof_row", "asof_n", "asof_at", "asof_c0", "asof_c1", "__asof_x",
    "select", "ORDER", "user", "table", "a b", "a.b", 'q"uote', "o'brien", "é", "日本語", "k0", "K1", "ts", "n",
    "place", "created", "arrived", "known", "source_row", "spine", "events", "source", "found", "f0", "o0", "v0", "tie0",
    "era", "part", "mark", "moment", "own_x", "gone", "created_time", "in_window", "100%s", "{x}", "back\\slash",
    "tab\tname", "NULL", "_", "1", "row", "e" * 70, "e" * 71, "X",
    "TS", "ASOF_ROW", "null", "event_timestamp_", "by_name",
]  # fmt: skip
"""Each has each role once, in one way or another: key, time, created time, and three values."""

SOURCES = ["asof_source_0", "asof_source_0_rows", "asof_spine", "asof_spine_whole", "asof_found_0", "source", "Source",
           "archive", "select", "orders", "Orders"]  # fmt: skip
VIEWS = ["asof_latest_0", "asof_windows_0", "v", "V", "select", "why", "a.b", "x-y"]


PARTS = 6
"""A test takes some of the names."""


@dataclass(frozen=True)
class Roles:
    """Names for the columns of one source, which is the `place`th."""

    place: int
    key: str
    time: str
    created: str
    number: str
    text: str
    amount: str

    @property
    def view(self) -> str:
        return VIEWS[self.place] if self.place < len(VIEWS) else f"v{self.place}"

    @property
    def source(self) -> str:
        return SOURCES[self.place] if self.place < len(SOURCES) else f"s{self.place}"

    @property
    def aggregated(self) -> str:
        return f"of{self.place}"

    @property
    def names(self) -> list[str]:
        return [self.key, self.time, self.created, self.number, self.text, self.amount]

    def rows(self) -> pa.Table:
        """Two keys; of rows that are equal in key and times the last is also the greatest by its values."""
        times = [NOON - timedelta(hours=1), NOON, NOON, NOON]
        columns = {
            # The order of the columns is that of no role.
            self.amount: pa.array([0.5, 1.5, 2.5, 9.5]),
            self.created: pa.array(times, US),
            self.key: pa.array([1, 1, 1, 2], pa.int64()),
            self.number: pa.array([10, 20, 30, 40], pa.int64()),
            self.text: ["a", "b", "c", "d"],
            self.time: pa.array(times, US),
        }
        # What no view reads: the same names in other letters, with values that would be wrong.
        others = {name.swapcase(): pa.array([-1, -2, -3, -4]) for name in self.names}
        return pa.table({**{name: column for name, column in others.items() if name not in columns}, **columns})

    def views(self, source: Source) -> list[Any]:
        entity = Entity(f"e{self.place}", [self.key])
        fields = [Field(self.number, Int64), Field(self.text, String), Field(self.amount, Float64)]
        made = [
            Aggregation(function="count", where=f"{quoted(self.number)} > 10", name=self.number),
            Aggregation(quoted(self.text), "last", name=self.text),
            Aggregation(quoted(self.amount), "sum", name=self.amount),
            Aggregation(quoted(self.text), "last_n", n=2, name=self.time),
        ]
        schema = [Field(self.key, Int64), *fields]
        return [
            entity, source, FeatureView(self.view, entities=[entity], source=source, schema=schema),
            FeatureView(self.aggregated, entities=[entity], source=source, schema=schema, aggregations=made),
        ]  # fmt: skip

    def features(self) -> list[str]:
        latest = [f"{self.view}:{name}" for name in (self.number, self.text, self.amount)]
        return latest + [f"{self.aggregated}:{name}" for name in (self.number, self.text, self.amount, self.time)]

    def expected(self) -> dict[str, list[Any]]:
        latest = {self.number: [30, 40, None], self.text: ["c", "d", None], self.amount: [2.5, 9.5, None]}
        aggregated = {
            self.number: [2, 1, 0], self.text: ["c", "d", None], self.amount: [4.5, 9.5, None],
            self.time: [["b", "c"], ["d"], None],
        }  # fmt: skip
        return {f"{self.view}__{name}": values for name, values in latest.items()} | {
            f"{self.aggregated}__{name}": values for name, values in aggregated.items()
        }


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def all_roles(names: Sequence[str]) -> list[Roles]:
    """Roles such that each name has each of them; names that differ by case alone meet in one source."""
    return [Roles(at, *(names[(at + step) % len(names)] for step in range(6))) for at in range(len(names))]


def frame_of(roles: Roles) -> pd.DataFrame:
    """Keys and times among columns of all other names."""
    others = {name: [place, place + 1, place + 2] for place, name in enumerate(NAMES) if name != roles.key}
    index = pd.Index([7, 8, 9], name="rowid")
    return pd.DataFrame({**others, roles.key: [1, 2, 3], "event_timestamp": [LATER] * 3}, index=index)


class HostileNamesSuite:
    """Give a store, and a way to write rows for a source."""

    ROLES: Sequence[Roles]

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FeatureStore]:
        (tmp_path / "feature_store.yaml").write_text("project: names\n", encoding="utf-8")
        with FeatureStore(tmp_path, clock=lambda: LATER) as store:
            yield store

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[Roles], Source]:
        raise NotImplementedError

    @pytest.mark.parametrize("part", range(PARTS))
    def test_values_are_right_whatever_the_names(
        self, store: FeatureStore, written: Callable[[Roles], Source], part: int
    ) -> None:
        made = {roles: roles.views(written(roles)) for roles in self.ROLES[part::PARTS]}
        store.apply([each for objects in made.values() for each in objects])
        store.materialize()
        wrong = {}
        for roles in made:
            for side, ask in (("trained", trained), ("served", looked_up), ("explained", explained)):
                try:
                    found = ask(store, roles)
                except Exception as error:
                    found = error
                if found is not None:
                    wrong[(side, *roles.names)] = found
        assert wrong == {}


def trained(store: FeatureStore, roles: Roles) -> Any:
    frame = frame_of(roles)
    result = store.get_historical_features(frame, roles.features(), full_feature_names=True)
    table = result.to_arrow()
    expected = roles.expected()
    if table.select(list(expected)).to_pydict() != expected:
        return table.select(list(expected)).to_pydict()
    made = result.to_df()
    pd.testing.assert_frame_equal(made[list(frame.columns)], frame)
    known = store.get_historical_features(frame, roles.features(), full_feature_names=True, known_at=True).to_arrow()
    if known.select(list(expected)).to_pydict() != expected:
        return "known", known.select(list(expected)).to_pydict()
    rows = store.get_historical_features(None, roles.features(), full_feature_names=True).to_arrow()
    found = rows.filter(pc.equal(rows["event_timestamp"], pa.scalar(NOON, US))).sort_by(roles.key)
    mine = {name: values[:2] for name, values in expected.items()}
    return None if found.select(list(mine)).to_pydict() == mine else ("no frame", found.to_pydict())


def looked_up(store: FeatureStore, roles: Roles) -> Any:
    answer = store.get_online_features(roles.features(), {roles.key: [1, 2, 3]}, full_feature_names=True).to_dict()
    expected = roles.expected()
    found = {name: answer[name] for name in expected}
    return None if found == expected else found


def explained(store: FeatureStore, roles: Roles) -> Any:
    for view in (roles.aggregated, roles.view):
        found = store.explain(f"{view}:{roles.text}", {roles.key: 1})
        if found.value != "c" or len(found) != 3:
            return found
    (chosen,) = [row for row in found.rows.to_pylist() if row["why"] == "chosen"]
    return None if {30, "c", 2.5} <= set(chosen.values()) else chosen


class TestParquet(HostileNamesSuite):
    ROLES = all_roles(NAMES)[::4]

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[Roles], Source]:
        def write(roles: Roles) -> Source:
            pq.write_table(roles.rows(), tmp_path / f"{roles.place}.parquet")
            return file_source(roles, f"{roles.place}.parquet")

        return write


class TestParquetFolder(HostileNamesSuite):
    ROLES = all_roles(NAMES)[1::4]

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[Roles], Source]:
        def write(roles: Roles) -> Source:
            folder = tmp_path / f"{roles.place}"
            folder.mkdir()
            pq.write_table(roles.rows().slice(0, 2), folder / "a.parquet")
            pq.write_table(roles.rows().slice(2), folder / "b.parquet")
            return file_source(roles, f"{roles.place}/*.parquet")

        return write


class TestCsv(HostileNamesSuite):
    ROLES = all_roles(NAMES)[2::4]

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[Roles], Source]:
        def write(roles: Roles) -> Source:
            pa.csv.write_csv(roles.rows(), tmp_path / f"{roles.place}.csv")
            return file_source(roles, f"{roles.place}.csv")

        return write


class TestDelta(HostileNamesSuite):
    ROLES = all_roles(NAMES)[3::4]

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[Roles], Source]:
        def write(roles: Roles) -> Source:
            # The names of a Delta table differ by more than case.
            write_deltalake(tmp_path / f"{roles.place}", roles.rows().select(roles.names))
            return file_source(roles, f"{roles.place}", file_format="delta")

        return write


class TestPushes(HostileNamesSuite):
    ROLES = [each for each in all_roles(NAMES) if not any(name.lower().startswith("asof_") for name in each.names)][::4]

    @pytest.fixture
    def written(self, store: FeatureStore) -> Callable[[Roles], Source]:
        return push_source

    @pytest.mark.parametrize("part", range(PARTS))
    def test_values_are_right_whatever_the_names(
        self, store: FeatureStore, written: Callable[[Roles], Source], part: int
    ) -> None:
        store.apply([each for roles in self.ROLES[part::PARTS] for each in roles.views(written(roles))])
        wrong = {}
        for roles in self.ROLES[part::PARTS]:
            rows = roles.rows().select(roles.names)
            for way, batch in (("dicts", rows.slice(0, 2).to_pylist()), ("pandas", rows.slice(2).to_pandas())):
                try:
                    store.push(roles.source, batch)
                except Exception as error:
                    wrong[(way, *roles.names)] = error
            for side, ask in (("trained", trained), ("served", looked_up), ("explained", explained)):
                try:
                    found = ask(store, roles)
                except Exception as error:
                    found = error
                if found is not None:
                    wrong[(side, *roles.names)] = found
        assert wrong == {}

    @pytest.mark.parametrize("name", ["partition", "OFFSET", "ingested_at", "asof_row", "Asof_Pushed_At"])
    def test_a_log_has_no_column_of_an_archive_s_names(self, store: FeatureStore, name: str) -> None:
        source = PushSource("clicks", [Field("user", Int64), Field(name, Int64), Field("at", Timestamp)], "at")

        with pytest.raises(CheckFailed, match=name):
            store.apply([source])

    def test_names_of_a_log_differ_by_more_than_case(self, store: FeatureStore) -> None:
        source = PushSource("clicks", [Field("user", Int64), Field("User", Int64), Field("at", Timestamp)], "at")

        with pytest.raises(CheckFailed, match="'user' and 'User'"):
            store.apply([source])


def push_source(roles: Roles) -> Source:
    rows = roles.rows()
    types = {pa.int64(): Int64, pa.string(): String, pa.float64(): Float64, US: Timestamp}
    fields = [Field(name, types[rows.schema.field(name).type]) for name in roles.names]
    return PushSource(roles.source, fields, roles.time, created_timestamp_column=roles.created)


def file_source(roles: Roles, path: str, **options: Any) -> Source:
    return FileSource(
        path, name=roles.source, timestamp_field=roles.time, created_timestamp_column=roles.created, **options
    )


def test_a_view_reads_one_of_two_columns_whose_names_differ_by_case_alone(tmp_path: Path) -> None:
    roles = Roles(0, "user", "at", "written", "x", "X", "amount")
    (tmp_path / "feature_store.yaml").write_text("project: names\n", encoding="utf-8")
    pq.write_table(roles.rows(), tmp_path / "0.parquet")

    with FeatureStore(tmp_path, clock=lambda: LATER) as store:
        source = file_source(roles, "0.parquet")
        user = Entity("user")
        low = FeatureView("low", entities=[user], source=source, schema=[Field("x", Int64)])
        high = FeatureView("high", entities=[user], source=source, schema=[Field("X", String)])

        with pytest.raises(CheckFailed, match="'X' and 'x'"):
            store.apply(roles.views(source))
        store.apply([user, source, low, high])
        frame = {"user": [1], "event_timestamp": [LATER]}
        table = store.get_historical_features(frame, ["low:x", "high:X"]).to_arrow()
        assert table.select(["x", "X"]).to_pydict() == {"x": [30], "X": ["c"]}
        by_sql = store.get_historical_features(
            f'SELECT "user", "X" AS label, "at" AS event_timestamp FROM {source.name}', ["low:x"]
        ).to_arrow()
        assert by_sql.select(["label", "x"]).slice(2, 1).to_pydict() == {"label": ["c"], "x": [30]}
        with pytest.raises(SourceError, match="differ by case alone"):
            store.get_historical_features(f'SELECT *, "at" AS event_timestamp FROM {source.name}', ["low:x"]).to_arrow()


def test_columns_of_an_entity_frame_in_a_file_or_in_sql_have_any_names(tmp_path: Path) -> None:
    roles = Roles(0, "rowid", "file_index", "file_row_number", "x", "why", "v__x")
    (tmp_path / "feature_store.yaml").write_text("project: names\n", encoding="utf-8")
    pq.write_table(roles.rows(), tmp_path / "0.parquet")
    frame = pa.Table.from_pandas(frame_of(roles), preserve_index=False)
    pq.write_table(frame, tmp_path / "frame.parquet")

    with FeatureStore(tmp_path, clock=lambda: LATER) as store:
        store.apply(roles.views(file_source(roles, "0.parquet")))
        features = [f"{roles.view}:x", f"{roles.view}:v__x"]
        table = store.get_historical_features(
            str(tmp_path / "frame.parquet"), features, full_feature_names=True
        ).to_arrow()
        of_sql = store.get_historical_features(
            'SELECT rowid, x AS "order", CAST(\'2026-01-01 13:00:00+00\' AS TIMESTAMPTZ) AS event_timestamp '
            f"FROM {roles.source}", features, full_feature_names=True,
        ).to_arrow()  # fmt: skip

    assert table.select(frame.column_names).to_pydict() == frame.to_pydict()
    assert table[f"{roles.view}__x"].to_pylist() == [30, 40, None]
    assert of_sql.drop_columns("event_timestamp").to_pydict() == {
        "rowid": [1, 1, 1, 2], "order": [10, 20, 30, 40], f"{roles.view}__x": [30, 30, 30, 40],
        f"{roles.view}__v__x": [2.5, 2.5, 2.5, 9.5],
    }  # fmt: skip


def test_without_a_frame_no_key_is_named_like_its_time(tmp_path: Path) -> None:
    roles = Roles(0, "event_timestamp", "at", "written", "x", "page", "amount")
    (tmp_path / "feature_store.yaml").write_text("project: names\n", encoding="utf-8")
    pq.write_table(roles.rows(), tmp_path / "0.parquet")

    with FeatureStore(tmp_path, clock=lambda: LATER) as store:
        store.apply(roles.views(file_source(roles, "0.parquet")))
        with pytest.raises(EntityFrameError, match="join key 'event_timestamp'"):
            store.get_historical_features(None, [f"{roles.view}:x"])


def test_a_key_with_the_full_name_of_a_feature_is_refused_where_functions_would_take_it_for_that(
    tmp_path: Path,
) -> None:
    roles = Roles(2, "v__x", "at", "written", "x", "page", "event_timestamp")
    (tmp_path / "feature_store.yaml").write_text("project: names\n", encoding="utf-8")
    pq.write_table(roles.rows(), tmp_path / "0.parquet")

    with FeatureStore(tmp_path, clock=lambda: LATER) as store:
        objects = roles.views(file_source(roles, "0.parquet"))

        @on_demand_feature_view(sources=[objects[2][["x"]]], schema=[Field("y", Int64)], mode="python")
        def made(inputs: dict[str, Any]) -> dict[str, Any]:
            return {"y": inputs["x"] + inputs["v__x"]}

        store.apply([*objects, made])
        frame = {"v__x": [1], "event_timestamp": [LATER]}
        for ask in (
            lambda: store.get_historical_features(frame, ["made:y"]),
            lambda: store.get_online_features(["made:y"], {"v__x": [1]}),
        ):
            with pytest.raises(FeatureNameCollision, match="join key 'v__x'"):
                ask()
        assert store.get_historical_features(frame, ["v:x"]).to_arrow()["x"].to_pylist() == [30]
        # A feature called as the times are: their column has another name.
        sampled = store.sample("v", n=4).to_arrow().sort_by("x")
        assert sampled.select(["x", "event_timestamp"]).to_pydict() == {
            "x": [10, 20, 30, 40], "event_timestamp": [0.5, 1.5, 2.5, 9.5]
        }  # fmt: skip
        assert sampled["event_timestamp_"].to_pylist()[-1] == NOON
