"""A newcomer makes every mistake: one clear message each, a code of its own, and nothing lost.

Mistakes that another file pins, in the depth where they belong:

    mistake                                     test
    a typo in a column, in a whole repository   test_apply.py: a_typo_in_a_column_names_the_near_one_and_the_line
    what a definition and its source disagree   test_checks.py: a_mistake_is_named_with_the_next_step
    an expression outside the language          test_expressions.py: what_is_outside_the_language_is_pointed_at
    every mistake in feature_store.yaml         test_config.py: a_mistake_is_named_with_its_line_and_the_next_step
    a broken frame of every kind                test_entity_frame.py: a_broken_frame_is_one_clear_message
    values that fit no type                     test_fitting.py: a_misfit_is_named_and_its_place_is_null
    an on-demand function of every bad kind     test_derive.py: a_bad_function_is_told_what_is_wrong
    a function that is not row-wise             test_derive.py: the_check_refuses_what_is_not_row_wise
    garbage, misfits and early messages         test_decoding.py: a_message_that_does_not_fit_is_a_letter_and_the_others_go_on
    two definitions, a broken Python file       test_collect.py: two_definitions_of_one_name_name_both_places,
                                                a_broken_file_is_named_by_the_users_own_line
    a damaged registry                          test_registry_sqlite.py: a_file_cut_short_is_named_as_damaged
    a damaged online store                      test_online_sqlite.py: a_file_that_is_no_database_is_called_damaged
    a damaged log                               test_log_file.py: damage_in_the_middle_is_an_error_with_file_and_position
    a full disk                                 integration/test_full_disk.py
    Ctrl-C                                      integration/test_interrupts.py
    kill -9 of the worker                       integration/test_stream_faults.py
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import FeatureStore
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.errors import AsofError
from asof.flows.stream.dead_letters import list_dead_letters
from asof.store import open_store_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
YAML = "project: shop\nclock: 2026-01-02T00:00:00Z\n"
BASE = """
from datetime import timedelta
from asof import *
from asof.types import *
hour = Sliding(timedelta(hours=1))
user = Entity(name="user", join_keys=["user_id"])
users = FileSource(name="users", path="users.parquet", timestamp_field="at", lag="1d")
"""
GOOD = (
    BASE
    + """
people = FeatureView(name="people", entities=[user], source=users, schema=[Field("country", String), Field("age", Int64)])
clicks = PushSource(
    name="clicks", timestamp_field="at",
    schema=[Field("user_id", Int64), Field("page", String), Field("n", Int64), Field("at", Timestamp)],
)
clicked = FeatureView(name="clicked", entities=[user], source=clicks, aggregations=[Aggregation(function="count", window=hour, name="n_1h")])
latest = FeatureView(name="latest", entities=[user], source=clicks, schema=[Field("page", String), Field("n", Int64)])
visits = LogSource(name="visits", timestamp_field="at", schema=[Field("user_id", Int64), Field("page", String), Field("at", Timestamp)])
visited = FeatureView(name="visited", entities=[user], source=visits, aggregations=[Aggregation(function="count", window=hour, name="visits_1h")])

@on_demand_feature_view(sources=[people], schema=[Field("ratio", Float64)], mode="python")
def ratio(row):
    if row["age"] == 40:
        raise ValueError("nobody is forty")
    return {"ratio": 1.0}
"""
)
USERS = pa.table({
    "user_id": pa.array([1, 2], pa.int64()), "country": ["PL", "DE"], "age": pa.array([30, 40], pa.int64()),
    "at": pa.array([NOW - timedelta(days=1)] * 2, pa.timestamp("us", "UTC")),
})  # fmt: skip


def write(folder: Path, code: str = GOOD, yaml: str = YAML) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text(yaml)
    (folder / "features.py").write_text(code)
    pq.write_table(USERS, folder / "users.parquet")
    return folder


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(AsofError) as caught:
        call()
    return caught.value.exit_code, str(caught.value)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    with FeatureStore(write(tmp_path_factory.mktemp("shop"))) as store:
        store.apply()
        store.materialize()
        yield store


def view(fields: str = 'Field("country", String)', *, source: str = "users", more: str = "") -> str:
    return f'v = FeatureView(name="v", entities=[user], source={source}, schema=[{fields}]{more})'


def counted(text: str) -> str:
    return f'v = FeatureView(name="v", entities=[user], source=users, aggregations=[Aggregation({text}, window=hour, name="x")])'


def function(mode: str, body: str) -> str:
    head = f'@on_demand_feature_view(sources=[people[["age"]]], schema=[Field("r", Float64)], mode="{mode}")'
    return f"{GOOD}\n{head}\ndef od(row):\n    {body}\n"


IN_THE_REPOSITORY: dict[str, tuple[str, int, list[str]]] = {
    "a typo in a column": (BASE + view('Field("contry", String)'), 6, [
        "features.py:8: feature view 'v': column 'contry' is not in source 'users' (next: did you mean 'country'?)"]),
    "a typo in a join key": (BASE.replace('"user_id"', '"user_ids"') + view(), 6, [
        "features.py:8: feature view 'v': join key 'user_ids' is not a column of source 'users'", "did you mean 'user_id'?"]),
    "a wrong timestamp column": (BASE.replace('"at"', '"when"') + view(), 6, [
        "features.py:7: source 'users': timestamp_field 'when' is not among its columns", "columns that are times: 'at'"]),
    "text as the event time": (BASE.replace('"at"', '"country"') + view(), 6, [
        "features.py:7: source 'users': expected timestamp_field 'country' to be a time", "columns that are times: 'at'"]),
    "an integer as the event time": (BASE.replace('"at"', '"age"') + view(), 6, [
        "features.py:7: source 'users': expected timestamp_field 'age' to be a time, found int64 without a unit", "timestamp_unit='ms'"]),
    "Int64 over text": (BASE + view('Field("country", Int64)'), 6, [
        "features.py:8: feature view 'v': expected feature 'country' to be Int64, found String", "declare Field('country', String)"]),
    "a missing file": (BASE.replace("users.parquet", "user.parquet") + view(), 6, [
        "features.py:7: source 'users': there is no file", "user.parquet", "did you mean 'users.parquet'?"]),
    "a function outside the language": (BASE + counted('function="count", where="regexp(country)"'), 6, [
        "features.py:8: feature view 'v': aggregation 'x'", "no function regexp", "the functions are coalesce"]),
    "text in double quotes": (BASE + counted("function=\"count\", where='country = \"PL\"'"), 6, [
        "features.py:8: feature view 'v'", "no column 'PL'", "write text in single quotes"]),
    "a sum of text": (BASE + counted('function="sum", column="country"'), 6, [
        "features.py:8: feature view 'v': aggregation 'x': sum does not work on 'country', which is String"]),
    "an unknown aggregate": (BASE + counted('function="cuont"'), 3, ["features.py:8: aggregation 'x': no function 'cuont'", "did you mean 'count'?"]),
    "a ttl without a unit": (BASE + view(more=", ttl=3600"), 3, [
        "features.py:8: feature view 'v': ttl=3600 is not a duration", "give a timedelta, or text like '1h30m'"]),
    "a lag without a unit": (BASE.replace('"1d"', "86400") + view(), 3, ["features.py:7: source 'users': lag=86400 is not a duration"]),
    "a duration that is none": (BASE + view(more=", delay='soon'"), 3, ["features.py:8: feature view 'v': delay='soon' is not a duration"]),
    "a window without a unit": (BASE.replace("timedelta(hours=1)", "60") + view(), 3, ["features.py:5: sliding window: length=60 is not a duration"]),
    "a hop without a unit": (BASE.replace("timedelta(hours=1)", "'1h', 5") + view(), 3, ["features.py:5: sliding window: hop=5 is not a duration"]),
    "a window of a fraction": (BASE.replace("timedelta(hours=1)", "0.5") + view(), 3, ["features.py:5: sliding window: length=0.5 is not a duration"]),
    "a gap without a unit": (BASE.replace("Sliding(timedelta(hours=1))", "Session(30)") + view(), 3, ["features.py:5: session window: gap=30 is not a duration"]),
    "a time_window without a unit": (BASE + counted('function="count"').replace("window=hour", "time_window=3600"), 3, ["features.py:8: aggregation 'x': time_window=3600 is not a duration", "text like '1h30m'"]),
    "a delay without a unit": (BASE + view(more=", delay=5"), 3, ["features.py:8: feature view 'v': delay=5 is not a duration"]),
    "a typo in a parameter": (BASE + view(more=", entity=user"), 3, ["features.py:8: feature view 'v' has no parameter 'entity'", "did you mean 'entities'?"]),
    "a name in place of an entity": (BASE + view(more="").replace("[user]", '["user"]'), 3, [
        "features.py:8: feature view 'v': entities= contains 'user'", "give Entity objects"]),
    "two definitions of one name": (GOOD + 'again = Entity(name="user", join_keys=["id"])', 3, [
        "two definitions of entity 'user'", "features.py:6", "features.py:24", "rename or remove one of them"]),
    "a file that is no Python": (GOOD + "def broken(:\n", 3, ["features.py:24: SyntaxError", "fix the file"]),
    "a name that is not there": (GOOD + "x = undefined\n", 3, ["features.py:24: NameError: name 'undefined' is not defined"]),
    "a package that is not there": ("import nothing_like_it\n" + GOOD, 3, ["features.py:1: ModuleNotFoundError", "install the package"]),
    "a file that ends the process": (GOOD + "raise SystemExit(3)\n", 3, ["features.py:24: the file ends the process"]),
    "a function that raises": (function(mode="python", body='return {"r": row["nothing"]}'), 6, [
        "features.py:25: on-demand feature view 'od': its function raised KeyError: 'nothing' at", "features.py:27"]),
    "a function of the wrong type": (function(mode="python", body='return {"r": "text"}'), 6, [
        "features.py:25: on-demand feature view 'od': field 'r' expects Float64, but 'text' is not a number"]),
    "a function of other fields": (function(mode="python", body='return {"x": 1.0}'), 6, [
        "on-demand feature view 'od': its function returned 'x', expected 'r'", "return exactly the fields of the schema"]),
    "a function of the wrong length": (function(mode="polars", body="return row.head(1).select(r='age')"), 6, [
        "on-demand feature view 'od': its function returned 1 row for 8", "one row for each input row"]),
    "a function that is not row-wise": (function(mode="polars", body="import polars as pl; return row.select(r=pl.col('age') - pl.col('age').mean())"), 6, [
        "on-demand feature view 'od': its function is not row-wise: field 'r' is", "aggregate over rows in a feature view"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", IN_THE_REPOSITORY)
def test_a_mistake_in_the_repository_is_named_and_nothing_is_applied(mistake: str, tmp_path: Path) -> None:
    code, exit_code, expected = IN_THE_REPOSITORY[mistake]
    with FeatureStore(write(tmp_path, code)) as store:
        found, message = refusal(store.apply)
        assert open_store_of(store).stores.registry.version("shop") == 0
    assert (found, [each for each in expected if each not in message]) == (exit_code, []), message


CONFIGURATIONS = {
    "an unknown key": (YAML + "online_stor:\n  type: sqlite\n", ["feature_store.yaml:3", "no key 'online_stor'", "did you mean 'online_store'?"]),
    "an unknown key of a part": (YAML + "online_store:\n  type: sqlite\n  pth: x\n", ["feature_store.yaml:5", "no key 'pth'", "did you mean 'path'?"]),
    "an unset variable": (YAML + "online_store:\n  path: ${NOT_SET_ANYWHERE}/x\n", ["feature_store.yaml:4", "NOT_SET_ANYWHERE is not set", "export NOT_SET_ANYWHERE=…"]),
    "a product that is not there": (YAML + "online_store:\n  type: sqlit\n", ["no online product 'sqlit'", "did you mean 'sqlite'?"]),
    "no YAML": ("project: shop\n  x: [\n", ["feature_store.yaml:2:", "not well-formed YAML"]),
    "a clock that is no time": ("project: shop\nclock: noon\n", ["feature_store.yaml:2: clock: expected a time such as", "found text 'noon'"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", CONFIGURATIONS)
def test_a_mistake_in_the_configuration_is_named_with_its_line(mistake: str, tmp_path: Path) -> None:
    yaml, expected = CONFIGURATIONS[mistake]
    exit_code, message = refusal(lambda: FeatureStore(write(tmp_path, yaml=yaml)).plan())
    assert (exit_code, [each for each in expected if each not in message]) == (3, []), message


def frame(**columns: Any) -> dict[str, list[Any]]:
    return {
        name: values
        for name, values in ({"user_id": [1, 2], "event_timestamp": [NOW, NOW]} | columns).items()
        if values
    }


AGE = ["people:age"]
HISTORICAL: dict[str, tuple[Any, Any, int, list[str]]] = {
    "an unknown view": (frame(), ["peple:age"], 4, ["no feature 'peple:age'", "did you mean 'people:age'?"]),
    "an unknown feature": (frame(), ["people:aeg"], 4, ["no feature 'people:aeg'", "did you mean 'people:age'?"]),
    "no feature at all": (frame(), [], 4, ["no features requested", "'view:feature'"]),
    "colliding names": (frame(), ["clicked:n_1h", "latest:n", "latest:n"], 4, ["'latest:n' and 'latest:n' would both be named 'n'", "request it once"]),
    "a feature named like a column": (frame(age=[1, 2]), AGE, 4, ["columns named like requested features: 'age'", "full_feature_names=True"]),
    "a missing join key": (frame(user_id=[]), AGE, 4, ["the entity frame has no join key 'user_id'", "add a column 'user_id'"]),
    "a join key by another name": ({"userid": [1], "event_timestamp": [NOW]}, AGE, 4, ["no join key 'user_id'", "rename its column 'userid' to 'user_id'"]),
    "a null join key": (frame(user_id=[1, None]), AGE, 4, ["join key 'user_id' is null", "first in row 1"]),
    "a text join key": (frame(user_id=["1", "x"]), AGE, 4, ["join key 'user_id' does not fit Int64", "'1' is not Int64"]),
    "no time": (frame(event_timestamp=[]), AGE, 4, ["the entity frame has no time column: expected 'event_timestamp'"]),
    "two times": ({"user_id": [1], "a": [NOW], "b": [NOW]}, AGE, 4, ["several time columns: ['a', 'b']", "name the one to use 'event_timestamp'"]),
    "a null time": (frame(event_timestamp=[NOW, None]), AGE, 4, ["time 'event_timestamp' is null", "first in row 1"]),
    "integers as times": (frame(event_timestamp=[1767312000] * 2), AGE, 4, ["'event_timestamp' has integers (int64) of unknown unit", "unit='ms'"]),
    "text as times": (frame(event_timestamp=["yesterday"] * 2), AGE, 4, ["'event_timestamp' is string; expected a timestamp"]),
    "an odd object": ([1, 2], AGE, 4, ["the entity frame is a list", "a SELECT"]),
    "no such file": ("spine.parquet", AGE, 4, ["there is no file 'spine.parquet'", "check the path"]),
    "a table that is no source": ("SELECT user_id, now() AS t FROM user", AGE, 4, ["reads 'user', which is not an applied source", "did you mean 'users'?"]),
    "a column that is not there": ("SELECT usr_id, now() AS t FROM users", AGE, 4, ["usr_id", "user_id"]),
    "no SQL": ("SELECT user_id FROM FROM users", AGE, 4, ["Parser Error", "LINE 1: SELECT user_id FROM FROM users", "^^^^"]),
    "a statement that writes": ("DROP TABLE users", AGE, 4, ["'DROP TABLE users' is neither a SELECT nor"]),
    "a function that raises": (frame(), ["ratio:ratio"], 7, ["on-demand feature view 'ratio': its function raised ValueError: nobody is forty", "features.py:22", "'age': 40"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", HISTORICAL)
def test_a_mistake_in_a_historical_request_is_named(mistake: str, shop: FeatureStore) -> None:
    given, features, exit_code, expected = HISTORICAL[mistake]
    found, message = refusal(lambda: shop.get_historical_features(given, features).to_arrow())
    assert (found, [each for each in expected if each not in message]) == (exit_code, []), message


def test_naive_times_of_a_frame_are_utc(shop: FeatureStore) -> None:
    before, after = NOW - timedelta(days=1, microseconds=1), NOW - timedelta(days=1)
    naive = frame(user_id=[1, 1], event_timestamp=[before.replace(tzinfo=None), after.replace(tzinfo=None)])
    assert shop.get_historical_features(naive, AGE).to_arrow()["age"].to_pylist() == [None, 30]


@pytest.mark.parametrize("given", [1767312000, "soon", 1.5])
def test_a_moment_has_to_be_a_time(given: Any, shop: FeatureStore) -> None:
    calls: dict[str, Callable[[], object]] = {
        "known_at": lambda: shop.get_historical_features(frame(), AGE, known_at=given),
        "start_date": lambda: shop.get_historical_features(None, AGE, start_date=given),
        "end_date": lambda: shop.materialize(None, given),
        "at": lambda: shop.explain("people:age", {"user_id": 1}, at=given),
    }
    for name, call in calls.items():
        exit_code, message = refusal(call)
        assert exit_code == 4 and f"{name}={given!r} is not a time" in message and "give a datetime" in message


def test_a_clock_has_to_answer_a_datetime(tmp_path: Path) -> None:
    exit_code, message = refusal(lambda: FeatureStore(write(tmp_path), clock=lambda: 12))  # type: ignore[arg-type, return-value]
    assert exit_code == 3 and "clock= returned 12" in message and "aware datetime" in message


ONLINE: dict[str, tuple[Any, Any, int, list[str]]] = {
    "a missing key": ([{"user": 1}], AGE, 4, ["entity row 0 has no join key 'user_id'", "rename its column 'user' to 'user_id'"]),
    "a later row without a key": ([{"user_id": 1}, {}], AGE, 4, ["entity row 1 has no join key 'user_id'"]),
    "a null key": ([{"user_id": None}], AGE, 4, ["join key 'user_id' is null in entity row 0"]),
    "a text key": ([{"user_id": "1"}], AGE, 4, ["join key 'user_id' in entity row 0: '1' is not Int64"]),
    "a key beyond 64 bits": ([{"user_id": 2**63}], AGE, 4, ["entity row 0: 9223372036854775808 is outside Int64"]),
    "one dict": ({"user_id": 1}, AGE, 4, ["entity column 'user_id' is 1; expected one value per row", "{'user_id': [1]}"]),
    "columns of two lengths": ({"user_id": [1, 2], "x": [1]}, AGE, 4, ["entity columns differ in length"]),
    "keys alone": ([1, 2], AGE, 4, ["entity row 0 is 1; expected a dict"]),
    "neither rows nor columns": (7, AGE, 4, ["the entity rows are 7; expected dicts, a dict of columns, or a table"]),
    "an unknown feature": ([{"user_id": 1}], ["people:agee"], 4, ["did you mean 'people:age'?"]),
    "a function that raises": ([{"user_id": 2}], ["ratio:ratio"], 7, ["its function raised ValueError: nobody is forty"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", ONLINE)
def test_a_mistake_in_an_online_request_is_named(mistake: str, shop: FeatureStore) -> None:
    rows, features, exit_code, expected = ONLINE[mistake]
    found, message = refusal(lambda: shop.get_online_features(features, rows))
    assert (found, [each for each in expected if each not in message]) == (exit_code, []), message


ROW = {"user_id": 7, "page": "home", "n": 1, "at": NOW}
PUSHED: dict[str, tuple[Any, str]] = {
    "3.7 into Int64": (ROW | {"n": 3.7}, "column 'n', row 1: 3.7 is not a whole number (Int64)"),
    "12 into String": (ROW | {"page": 12}, "column 'page', row 1: 12 is not text (String)"),
    "2**63": (ROW | {"n": 2**63}, "column 'n', row 1: 9223372036854775808 is outside Int64"),
    "an extra column": (ROW | {"pages": 1}, "row 1: column 'pages' is not declared (did you mean 'page'?)"),
    "a missing column": ({name: ROW[name] for name in ("user_id", "page", "at")}, "row 1: column 'n' is missing"),
    "a null key": (ROW | {"user_id": None}, "column 'user_id', row 1: is null"),
    "a null time": (ROW | {"at": None}, "column 'at', row 1: is null"),
    "an integer as the time": (ROW | {"at": 1767225600}, "column 'at', row 1: 1767225600 is not a time (Timestamp)"),
    "text that is no time": (ROW | {"at": "noon"}, "column 'at', row 1: 'noon' is not an ISO 8601 time"),
    "an hour in the future": (ROW | {"at": NOW + timedelta(hours=1)}, "row 1: event time 2026-01-02T01:00:00Z is 1h after the clock"),
    "a row that is none": (7, "row 1 is 7; expected a dict"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", PUSHED)
def test_a_pushed_batch_with_a_row_that_does_not_fit_is_refused_whole(mistake: str, shop: FeatureStore) -> None:
    row, reason = PUSHED[mistake]
    before = shop.get_online_features(["latest:n", "clicked:n_1h"], [{"user_id": 7}]).to_dict()
    exit_code, message = refusal(lambda: shop.push("clicks", [ROW, row]))
    assert exit_code == 5 and "features.py:10: rows pushed to source 'clicks'" in message
    assert reason in message and "nothing was written" in message and "next: " in message
    assert shop.get_online_features(["latest:n", "clicked:n_1h"], [{"user_id": 7}]).to_dict() == before
    assert len(shop.dead_letters("clicks")) == 0


@pytest.mark.parametrize("rows", [None, "rows", 7])
def test_what_is_no_rows_is_refused(rows: Any, shop: FeatureStore) -> None:
    exit_code, message = refusal(lambda: shop.push("clicks", rows))
    assert exit_code == 5 and f"{rows!r} is neither a table nor a list of dicts" in message


def test_names_that_are_not_there_suggest_the_near_one(shop: FeatureStore) -> None:
    for call, kind, near in (
        (lambda: shop.push("click", [ROW]), "source 'click'", "clicks"),
        (lambda: shop.materialize(feature_views=["peeple"]), "feature view 'peeple'", "people"),
        (lambda: shop.rebuild(["clickd"]), "feature view 'clickd'", "clicked"),
        (lambda: shop.get_feature_view("peeple"), "feature view 'peeple'", "people"),
        (lambda: shop.get_online_features(["n_1h"], [{"user_id": 7}]), "feature 'n_1h'", "clicked:n_1h"),
        (lambda: shop.get_online_features(["clickd"], [{"user_id": 7}]), "feature 'clickd'", "clicked"),
        (lambda: shop.get_entity("usr"), "entity 'usr'", "user"),
        (lambda: shop.forget("usr", 7), "entity 'usr'", "user"),
        (lambda: shop.sample("peeple"), "'peeple'", "people"),
        (lambda: shop.stream_run(["visit"], until_caught_up=True), "source 'visit'", "visits"),
    ):
        exit_code, message = refusal(call)
        assert exit_code == 4 and kind in message and f"did you mean {near!r}?" in message


def test_other_values_that_make_no_sense_are_named(shop: FeatureStore) -> None:
    for call, words in (
        (lambda: shop.sample("people", n=0), "n=0: expected at least 1"),
        (lambda: shop.sample("people", by="columns"), "by='columns': expected 'rows' or 'entities'"),
        (lambda: shop.materialize("2026-01-02", "2026-01-01"), "is not after start"),
        (lambda: shop.push("users", [ROW]), "source 'users' is not a log or push source"),
        (lambda: shop.push("visits", [ROW]), "rows cannot be pushed to it"),
        (lambda: shop.backfill("clicks"), "has no batch source"),
    ):
        exit_code, message = refusal(call)
        assert exit_code == 4 and words in message and "next: " in message


def test_what_is_garbage_in_a_stream_becomes_letters_and_the_rest_is_counted(tmp_path: Path) -> None:
    good = b'{"user_id": 7, "page": "a", "at": "2026-01-01T23:59:00Z"}'
    bad = {
        b"\xff\x00garbage": "not a JSON object",
        b"": "not a JSON object",
        b"[1]": "not a JSON object",
        good.replace(b"7", b"7.5"): "user_id",
        good.replace(b'"a"', b"12"): "page",
        good.replace(b"7", b"null"): "key 'user_id' is null",
        good.replace(b"01T23:59:00Z", b"02T01:00:00Z"): "1h after the clock",
    }
    with FeatureStore(write(tmp_path)) as store:
        store.apply()
        open_store_of(store).stores.log.send(
            "visits", list(itertools.chain.from_iterable((good, each) for each in bad)), durable=True
        )
        store.stream_run(["visits"], until_caught_up=True)
        assert store.get_online_features(["visited:visits_1h"], [{"user_id": 7}]).to_dict()["visits_1h"] == [len(bad)]
        dead_letters = list_dead_letters(open_store_of(store).stores, "visits", 100).to_dicts()
    reasons = {each["offset"]: each["reason"] for each in dead_letters}
    assert len(reasons) == len(bad)
    said = [reasons[offset] for offset in sorted(reasons)]
    assert [word for word, reason in zip(bad.values(), said, strict=True) if word not in reason] == [], said


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("cli"))
    with FeatureStore(folder) as store:
        store.apply()
    return folder


class TestAtTheCommandLine:
    """The same errors, as words on stderr, with a code and without a traceback."""

    @pytest.mark.parametrize(
        "command, code, words",
        [
            (
                'push clicks {"user_id":7,"page":12,"n":1,"at":"2026-01-01T00:00:00Z"}',
                5,
                ["column 'page', row 0: 12 is not text"],
            ),
            ("push clicks nonsense", 2, ["not JSON"]),
            ("push orders {}", 4, ["log and push sources: 'clicks'"]),
            ("get online -f people:aeg --key user_id=1", 4, ["did you mean 'people:age'?"]),
            ("get online -f people:age --key user=1", 4, ["no join key 'user_id'"]),
            ("get online -f people:age --key user_id=one", 4, ["'one' is not Int64"]),
            ("get historical -f people:age --entities missing.parquet", 4, ["there is no file"]),
            ("materialize peeple", 4, ["did you mean 'people'?"]),
            ("materialize --start noon", 2, ["noon"]),
            ("show view peeple", 4, ["did you mean 'people'?"]),
            ("stream run visit", 4, ["did you mean 'visits'?"]),
            ("forget --entity usr --key 7 --yes", 4, ["did you mean 'user'?"]),
        ],
    )
    def test_a_mistake_is_an_error_and_a_code(self, command: str, code: int, words: list[str], applied: Path) -> None:
        result = CliRunner().invoke(cli, ["-C", str(applied), *command.split()], obj=CliContext())
        assert result.exit_code == code, result.output
        assert result.stdout == "" and "error: " in result.stderr and "Traceback" not in result.stderr
        assert [each for each in words if each not in result.stderr] == [], result.stderr

    def test_a_push_before_the_first_apply_says_so(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(cli, ["-C", str(write(tmp_path)), "push", "clicks", "{}"], obj=CliContext())
        assert result.exit_code == 4 and "run `asof apply` first" in result.stderr

    def test_a_broken_file_stops_plan_and_apply_and_not_what_serves(self, applied: Path, tmp_path: Path) -> None:
        folder = tmp_path / "broken"
        shutil.copytree(applied, folder)
        (folder / "features.py").write_text("def broken(:\n")
        for command in (["plan"], ["apply", "--yes"]):
            result = CliRunner().invoke(cli, ["-C", str(folder), *command], obj=CliContext())
            assert result.exit_code == 3 and "features.py:1: SyntaxError" in result.stderr
        result = CliRunner().invoke(
            cli, ["-C", str(folder), "get", "online", "-f", "people:age", "--key", "user_id=1"], obj=CliContext()
        )
        assert result.exit_code == 0, result.output

    def test_a_damaged_registry_is_named_with_the_way_out(self, applied: Path, tmp_path: Path) -> None:
        folder = tmp_path / "damaged"
        shutil.copytree(applied, folder)
        for each in (folder / "data").glob("registry.db*"):
            each.write_bytes(b"garbage" * 1000)
        for command in (["list"], ["plan"], ["get", "online", "-f", "people:age", "--key", "user_id=1"]):
            result = CliRunner().invoke(cli, ["-C", str(folder), *command], obj=CliContext())
            assert result.exit_code == 8 and "registry.db" in result.stderr and "next: " in result.stderr, result.output
