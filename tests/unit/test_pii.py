"""Which values are hidden: what is tagged `pii`, and what is made of it."""

from __future__ import annotations

import pytest

from asof.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    PushSource,
    RequestSource,
    Sliding,
)
from asof.lineage import hides_column, hides_key, hides_rows, hides_values
from asof.lineage.pii import is_pii
from asof.types import Int64, String, Timestamp

USER = Entity("user", ["user_id"])
PII = {"pii": "true"}
EVENTS = PushSource(
    "events",
    schema=[
        Field("uid", Int64), Field("email", String, tags=PII), Field("page", String), Field("at", Timestamp),
    ],
    timestamp_field="at", field_mapping={"uid": "user_id"},
)  # fmt: skip


@pytest.mark.parametrize("value, hidden", [
    ("true", True), ("yes", True), ("", True), ("email", True), ("no", False), ("False", False), (" no ", False),
])  # fmt: skip
def test_any_value_of_the_tag_hides_but_no(value: str, hidden: bool) -> None:
    assert is_pii({"pii": value}) is hidden
    assert not is_pii({"team": value})


def test_what_is_made_of_a_tagged_column_is_hidden_but_for_numbers_of_rows() -> None:
    view = FeatureView(
        "activity", entities=[USER], source=EVENTS,
        aggregations=[
            Aggregation("", "count", window=Sliding("1d"), name="n"),
            Aggregation("lower(email)", "last", window=Sliding("1d"), name="last_email"),
            Aggregation("page", "last", where="email IS NOT NULL", window=Sliding("1d"), name="page_of_one_with_email"),
            Aggregation("email", "count_distinct", window=Sliding("1d"), name="emails"),
        ],
    )  # fmt: skip
    assert [name for name in view.feature_names if hides_values(view, name)] == ["last_email"]
    assert hides_column(EVENTS, "email") and not hides_column(EVENTS, "page")


def test_a_tagged_column_of_the_history_hides_what_is_made_of_it() -> None:
    history = FileSource("past.parquet", name="past", timestamp_field="at", field_mapping={"ip": "address"}, schema=[
        Field("user_id", Int64), Field("ip", String, tags=PII), Field("page", String), Field("at", Timestamp),
    ])  # fmt: skip
    fields = [Field("user_id", Int64), Field("address", String), Field("page", String), Field("at", Timestamp)]
    pushes = PushSource("pushes", fields, "at", batch_source=history)
    view = FeatureView("latest", entities=[USER], source=pushes, schema=fields[:3])

    assert [name for name in view.feature_names if hides_values(view, name)] == ["address"]


def test_a_tag_on_a_view_or_a_feature_hides_it() -> None:
    fields = [Field("user_id", Int64), Field("page", String), Field("email", String)]
    plain = FeatureView("plain", entities=[USER], source=EVENTS, schema=fields)
    tagged = FeatureView("tagged", entities=[USER], source=EVENTS, schema=fields, tags=PII)
    one = FeatureView("one", entities=[USER], source=EVENTS, schema=[*fields[:1], Field("page", String, tags=PII)])
    assert not hides_values(plain, "page") and hides_values(plain, "email")
    assert hides_values(tagged, "page")
    assert hides_values(one, "page")
    shown = Field("email", String, tags={"pii": "no"})
    assert not hides_values(
        FeatureView("v", entities=[USER], source=EVENTS, schema=[*fields[:1], shown], tags=PII), "email"
    )


def test_an_on_demand_feature_is_hidden_with_any_of_its_inputs() -> None:
    view = FeatureView(
        "v",
        entities=[USER],
        source=EVENTS,
        schema=[Field("user_id", Int64), Field("page", String), Field("email", String)],
    )
    now = RequestSource("now", schema=[Field("ip", String, tags=PII)])

    def made(*sources: object) -> OnDemandFeatureView:
        return OnDemandFeatureView("d", schema=[Field("y", String)], sources=sources, mode="python")  # type: ignore[arg-type]  # any input

    assert not hides_values(made(view[["page"]]), "y")
    assert hides_values(made(view), "y")
    assert hides_values(made(view[["page"]], now), "y")


def test_keys_are_hidden_by_a_tag_of_the_entity_or_of_the_column_behind_the_join_key() -> None:
    tagged_user = Entity("user", ["user_id"], tags=PII)
    fields = [Field("user_id", Int64), Field("page", String)]
    tagged = PushSource(
        "tagged", schema=[Field("uid", Int64, tags=PII), Field("page", String), Field("at", Timestamp)],
        timestamp_field="at", field_mapping={"uid": "user_id"},
    )  # fmt: skip
    assert not hides_key(FeatureView("v", entities=[USER], source=EVENTS, schema=fields))
    assert hides_key(FeatureView("v", entities=[tagged_user], source=EVENTS, schema=fields))
    assert hides_key(FeatureView("v", entities=[USER], source=tagged, schema=fields))
    assert not hides_values(FeatureView("v", entities=[USER], source=tagged, schema=fields), "page")


@pytest.mark.parametrize("tagged, hidden", [
    ("source", True), ("field", True), ("view", True), ("entity", True), ("", False),
])  # fmt: skip
def test_whole_rows_are_hidden_by_any_tag_on_them_or_on_what_is_made_of_them(tagged: str, hidden: bool) -> None:
    def tags(of: str) -> dict[str, str]:
        return PII if of == tagged else {}

    user = Entity("user", ["user_id"], tags=tags("entity"))
    schema = [Field("user_id", Int64), Field("email", String, tags=tags("field")), Field("at", Timestamp)]
    source = PushSource("mails", schema=schema, timestamp_field="at", tags=tags("source"))
    count = Aggregation("", "count", name="n")
    view = FeatureView("sent", entities=[user], source=source, aggregations=[count], tags=tags("view"))
    assert hides_rows(source, [view]) is hidden
