"""Checking definitions against what the sources hold: each mistake's message, and the types that are settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from asof.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    OnDemandFeatureView,
    RequestSource,
    Session,
    Sliding,
    project_of,
)
from asof.dtypes import Array, Decimal, DType, Embedding
from asof.errors import SourceError
from asof.planning import Finding, resolve
from asof.planning.fits import misfit
from asof.types import Bool, Date, Float32, Float64, Int32, Int64, Json, String, Timestamp

user = Entity("user", ["user_id"])


@dataclass(frozen=True)
class Column:
    name: str
    dtype: DType | None
    arrow: str = ""


def columns(**dtypes: DType | None) -> list[Column]:
    return [Column(name, dtype, str(dtype).lower()) for name, dtype in dtypes.items()]


USERS = columns(user_id=Int64, at=Timestamp, country=String, age=Int64, score=Float64, stuff=None)
SOURCE: dict[str, Any] = {"path": "users.parquet", "timestamp_field": "at", "lag": "1h"}


def view_of(*, source: dict[str, Any] | None = None, **options: Any) -> FeatureView:
    return FeatureView("users", entities=[user], source=FileSource(**{**SOURCE, **(source or {})}), **options)


def findings_of(*objects: Any, found: Any = USERS) -> list[Finding]:
    return resolve(project_of(objects), {"users": found})[1]


def texts(*objects: Any, found: Any = USERS, severity: str = "error") -> list[str]:
    shown = [each for each in findings_of(*objects, found=found) if each.severity == severity]
    return [f"{each.object}: " + str(each).split(f"{each.object}: ", 1)[1] for each in shown]


def test_a_view_without_schema_has_all_columns_but_keys_and_times() -> None:
    project, findings = resolve(project_of([view_of(source={"timestamp_field": None})]), {"users": USERS})

    assert project.sources["users"].timestamp_field == "at"
    assert project.views["users"].source is project.sources["users"]
    assert project.views["users"].key_fields == (Field("user_id", Int64),)
    assert project.views["users"].features == (Field("country", String), Field("age", Int64), Field("score", Float64))
    assert [(each.severity, each.found) for each in findings] == [
        ("warning", "column 'stuff' is left out: Asof has no type for it")
    ]


def test_the_types_of_aggregations_are_settled() -> None:
    view = view_of(
        aggregations=[
            Aggregation("", "count", where="country = 'PL'", window=Session("1h"), name="n"),
            Aggregation("age * 2", "sum", window=Sliding("1d"), name="s"),
            Aggregation("score", "max", name="m"),
            Aggregation("age", "mean", name="a"),
            Aggregation("country", "last_n", n=3, name="l"),
        ]
    )

    project, findings = resolve(project_of([view]), {"users": USERS})

    assert findings == []
    assert [each.dtype for each in project.views["users"].features] == [Int64, Int64, Float64, Float64, Array(String)]


def test_what_was_settled_once_is_settled_the_same_again() -> None:
    view = view_of(aggregations=[Aggregation("score", "max", name="m")])
    once, _ = resolve(project_of([view]), {"users": USERS})
    twice, findings = resolve(once, {"users": USERS})

    assert (twice.content(), findings) == (once.content(), [])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        pytest.param(
            {}, {"schema": [Field("contry", String)]},
            "feature view 'users': column 'contry' is not in source 'users' (next: did you mean 'country'?)",
            id="typo in a column",
        ),
        pytest.param(
            {}, {"schema": [Field("country", Int64)]},
            "feature view 'users': expected feature 'country' to be Int64, found String "
            "(next: declare Field('country', String))",
            id="Int64 over text",
        ),
        pytest.param(
            {}, {"schema": [Field("age", String)]},
            "feature view 'users': expected feature 'age' to be String, found Int64 "
            "(next: declare Field('age', Int64))",
            id="text over integers",
        ),
        pytest.param(
            {"timestamp_field": "att"}, {},
            "source 'users': timestamp_field 'att' is not among its columns (next: did you mean 'at'?)",
            id="missing timestamp column",
        ),
        pytest.param(
            {"timestamp_field": "country"}, {},
            "source 'users': expected timestamp_field 'country' to be a time, or an integer with timestamp_unit, "
            "found string (next: columns that are times: 'at')",
            id="wrong timestamp column",
        ),
        pytest.param(
            {"timestamp_field": "age"}, {},
            "source 'users': expected timestamp_field 'age' to be a time, found int64 without a unit "
            "(next: give timestamp_unit='ms' (or s, us, ns))",
            id="integer time without a unit",
        ),
        pytest.param(
            {"created_timestamp_column": "country"}, {},
            "source 'users': expected created_timestamp_column 'country' to be a time, found string "
            "(next: columns that are times: 'at')",
            id="wrong created column",
        ),
        pytest.param(
            {"schema": [Field("at", Timestamp), Field("ages", Int64)]}, {},
            "source 'users': the source has no column 'ages' (next: did you mean 'age'?)",
            id="typo in the source's schema",
        ),
        pytest.param(
            {"field_mapping": {"contry": "land"}}, {},
            "source 'users': field_mapping names column 'contry', which the source does not have (next: did you mean 'country'?)",
            id="typo in field_mapping",
        ),
        pytest.param(
            {"field_mapping": {"user_id": "uid"}}, {},
            "feature view 'users': join key 'user_id' is not a column of source 'users' (next: did you mean 'uid'?)",
            id="key renamed away",
        ),
        pytest.param(
            {}, {"aggregations": [Aggregation("", "count", where="contry = 'PL'", name="n")]},
            "feature view 'users': aggregation 'n': no column 'contry' for the expression `contry = 'PL'` "
            "(next: did you mean 'country'?)",
            id="typo in an expression",
        ),
        pytest.param(
            {}, {"aggregations": [Aggregation("", "count", where="age + 1", name="n")]},
            "feature view 'users': aggregation 'n': the expression `age + 1` is of type Int64, expected Bool "
            "(next: write a comparison)",
            id="where that is no condition",
        ),
        pytest.param(
            {}, {"aggregations": [Aggregation("country", "sum", name="s")]},
            "feature view 'users': aggregation 's': sum does not work on 'country', which is String "
            "(next: write another column or function)",
            id="sum of text",
        ),
        pytest.param(
            {}, {"aggregations": [Aggregation("age", "max", name="m", dtype=String)]},
            "feature view 'users': expected aggregation 'm': dtype String, found Int64 (next: leave dtype= out)",
            id="declared answer of another type",
        ),
        pytest.param(
            {}, {"schema": [Field("age", Int64, default="none")]},
            "feature view 'users': expected the default of 'age' to be Int64, found 'none' "
            "(next: give a default of that type)",
            id="default of another type",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_the_next_step(source: dict[str, Any], options: dict[str, Any], message: str) -> None:
    assert texts(view_of(source=source, **options)) == [message]


def test_an_expression_outside_the_language_is_refused() -> None:
    [text] = texts(view_of(aggregations=[Aggregation("", "count", where="random() < 0.5", name="n")]))

    assert text.startswith("feature view 'users': aggregation 'n': ") and "random" in text


def test_several_times_without_a_timestamp_field_are_listed() -> None:
    found = columns(user_id=Int64, at=Timestamp, seen=Timestamp)

    assert texts(view_of(source={"timestamp_field": None}), found=found) == [
        "source 'users': expected timestamp_field, or one column that is a time, found candidates 'at', 'seen' "
        "(next: give timestamp_field='at')"
    ]


def test_a_source_that_cannot_be_read_is_one_finding_and_not_one_per_view() -> None:
    error = SourceError("no file users.parquet", hint="check path=")

    assert texts(view_of(schema=[Field("x", Int64)]), found=error) == [
        "source 'users': no file users.parquet (next: check path=)"
    ]


def test_all_findings_come_at_once_errors_first_and_name_the_place() -> None:
    view = view_of(schema=[Field("contry", String), Field("ag", Int64), Field("score", Float32)], ttl="1d")
    found = findings_of(view)

    assert [each.severity for each in found] == ["error", "error", "note"]
    assert found[0].where.startswith(__file__) and str(found[0]).startswith(f"{__file__}:")
    assert found[2].found == "feature 'score' is Float64, declared Float32: values are rounded to the nearest Float32"


def test_a_join_key_of_two_types_in_two_views_is_a_warning() -> None:
    other = FeatureView(
        "orders", entities=[user], source=FileSource("orders.parquet", timestamp_field="at", lag="1h"),
        schema=[Field("total", Int64)],
    )  # fmt: skip
    _, findings = resolve(
        project_of([view_of(schema=[Field("age", Int64)]), other]),
        {"users": USERS, "orders": columns(user_id=String, at=Timestamp, total=Int64)},
    )

    [finding] = findings
    assert finding.severity == "warning"
    assert "is Int64, but String in feature view 'orders'" in finding.found


def test_a_float_key_needs_a_declared_type() -> None:
    found = columns(user_id=Float64, at=Timestamp, age=Int64)

    [text] = texts(view_of(), found=found)
    assert text.endswith("(next: declare Field('user_id', Int64) in schema= where its values are whole)")
    assert texts(view_of(schema=[Field("user_id", Int64), Field("age", Int64)]), found=found) == []


def test_late_rows_that_a_run_would_miss_are_noted() -> None:
    [note] = findings_of(view_of(source={"lag": None}, schema=[Field("age", Int64)]))

    assert (note.severity, note.hint) == (
        "note", "set created_timestamp_column= or lag= of the source, or lookback= of the view, to read only new rows"
    )  # fmt: skip


def test_a_log_source_is_its_own_description_and_its_batch_source_must_fit() -> None:
    log = LogSource(
        "traffic", schema=[Field("user_id", Int64), Field("page", String), Field("ts", Int64)], timestamp_field="ts",
        timestamp_unit="ms", batch_source=FileSource("users.parquet", timestamp_field="at"), stream_from="2020-01-01",
    )  # fmt: skip
    view = FeatureView("v", entities=[user], source=log, aggregations=[Aggregation("page", "last", name="page")])
    project, findings = resolve(project_of([view]), {"users": columns(user_id=String, at=Timestamp)})

    assert project.views["v"].features == (Field("page", String),)
    assert [each.message.split(": ", 1)[1] for each in findings] == [
        "source 'traffic': expected column 'user_id' of batch source 'users' as Int64, found String",
        "source 'traffic': batch source 'users' has no column 'page'",
    ]


def test_on_demand_inputs_that_collide_or_are_not_there_are_errors() -> None:
    users = view_of()
    request = RequestSource("r", schema=[Field("age", Int64), Field("user_id", Int64)])
    derived = OnDemandFeatureView(
        "d",
        sources=[users[["age", "agee"]], request],
        schema=[Field("out", Float64)],
        udf=lambda row: row,
        mode="python",
    )

    assert texts(derived) == [
        "on-demand feature view 'd': feature view 'users' has no feature 'agee' (next: did you mean 'age'?)",
        "on-demand feature view 'd': 'age' would name both a feature and a request field (next: rename one of them)",
        "on-demand feature view 'd': 'user_id' would name both a join key and a request field "
        "(next: rename one of them)",
    ]


def test_a_service_whose_output_names_collide_is_warned_of() -> None:
    users = view_of(schema=[Field("age", Int64)])
    service = FeatureService("model", [users, users.with_name("friend")])

    assert texts(service, severity="warning") == [
        "feature service 'model': users:age and friend:age would have the same output name "
        "(next: ask for full feature names, or rename a view in the service (with_name))"
    ]


def test_notes_of_feasts_parameters_are_findings() -> None:
    [note] = [
        each for each in findings_of(view_of(schema=[Field("age", Int64)], org="mine")) if each.severity == "note"
    ]

    assert note.message.endswith("feature view 'users': org= has no meaning in Asof and is ignored")


@pytest.mark.parametrize(
    ("declared", "found", "fits", "silent"),
    [
        (Int64, Int32, True, True), (Int32, Int64, True, False), (Float64, Float32, True, True),
        (Float64, Int32, True, True),
        (Int64, Float64, True, False), (Float64, Int64, True, False), (Float32, Float64, True, False),
        (Timestamp, Date, True, True), (Date, Timestamp, False, True), (Json, String, True, True),
        (Int64, Bool, False, True),
        (Bool, Int64, False, True), (String, Int64, False, True), (Decimal(12, 2), Decimal(10, 2), True, True),
        (Decimal(12, 2), Decimal(12, 4), False, True), (Decimal(12, 2), Int32, True, True),
        (Decimal(12, 2), Int64, False, True),
        (Array(Int64), Array(Int32), True, True), (Array(Int64), Array(String), False, True),
        (Embedding(3), Array(Float32), True, False), (Embedding(3), Array(String), False, False),
    ],
)  # fmt: skip
def test_only_widening_is_silent(declared: DType, found: DType, fits: bool, silent: bool) -> None:
    answer, word = misfit(declared, found)

    assert answer is fits
    assert (word == "") is silent or not fits


def test_a_column_that_is_aggregated_has_one_type_in_the_source_and_the_view() -> None:
    spent = Aggregation(column="age * 2", function="sum", where="score > 1", name="spent")
    own = [Field("user_id", Int64), Field("at", Timestamp), Field("age", Int64), Field("score", Float64)]
    log = LogSource("events", schema=own, timestamp_field="at")

    def of(source: Any, *fields: Field) -> list[str]:
        view = FeatureView("spending", entities=[user], source=source, schema=fields, aggregations=[spent])
        return texts(view)

    for source in (FileSource(name="users", schema=own, **SOURCE), log):
        assert of(source, Field("age", Int64), Field("spent", Int64)) == []
        assert of(source, Field("age", Float64)) == [
            "feature view 'spending': expected column 'age' as Float64, as the view declares it, found Int64 in schema= "
            f"of source {source.name!r} (next: give both the same type, or leave the column out of the view's schema=)"
        ]
        assert len(of(source, Field("age", Int32), Field("score", Float32))) == 2
