"""What verbs return: rows with attributes, which become frames of every library and show themselves."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from asof.definitions import Aggregation, Entity, FeatureService, FeatureView, Field, LogSource, Project, Sliding
from asof.definitions.facts import TrainingSet
from asof.display import SHOWN_ROWS, html_table, text_table
from asof.errors import MissingExtra
from asof.flows.admin.audit import AuditReport, Difference
from asof.flows.admin.explain import Explanation
from asof.planning import Create, Finding, Plan
from asof.planning.changes import FieldChange, NewGeneration
from asof.results import Record, Records, Result, Row, TableResult, require
from asof.types import Int64, Timestamp

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Visit(Record):
    user: int
    page: str | None
    at: datetime
    tags: list[str]
    value: object = None


VISITS = (
    Visit(7, "home", NOON, ["a", "b"], 1.5),
    Visit(8, None, NOON, [], {"x": 1}),
)


def explanation() -> Explanation:
    rows = pa.table({"event_time": [NOON], "why": ["counts"]})
    return Explanation("visits:count", {"user": 7}, NOON, 1, rows, "visits:count is 1.")


def audit_report() -> AuditReport:
    found = [Difference("visits", "count", {"user": 7}, NOON, 3, 4, "the row is missing")]
    return AuditReport(NOON, keys=10, values=10, equal=9, differences=found)


def training_sets() -> Records[TrainingSet]:
    return Records(TrainingSet, [TrainingSet(name="march", rows=3, created="2026-11-23T12:00:00Z", table="march-1")])


RESULTS = {
    "records": lambda: Records(Visit, VISITS),
    "no records": lambda: Records(Visit, []),
    "table": lambda: TableResult(pa.table({"user": [7, 8], "visits:1d": [1, None]}), "Sample of 'visits'"),
    "explanation": explanation,
    "audit": audit_report,
    "training sets": training_sets,
}


@pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)
def test_every_result_is_the_same_rows_in_each_form(made) -> None:
    found: Result[Record] = made()
    table = found.to_arrow()

    assert table.num_rows == len(found) == len(list(found)) == len(found.to_dicts())
    assert pa.table(found).equals(table)
    assert found.to_polars().equals(pl.DataFrame(found)) and found.to_polars().columns == table.column_names
    assert list(found.to_df().columns) == table.column_names and len(found.to_df()) == len(found)
    assert duckdb.sql("SELECT count(*) FROM found").fetchall() == [(len(found),)]
    for row in found:
        assert {name: row[name] for name in row.to_dict()} == row.to_dict()
        assert all(getattr(row, name) is not None for name, value in row.to_dict().items() if value is not None)


def test_records_say_their_types_also_without_rows() -> None:
    expected = pa.schema(
        [("user", pa.int64()), ("page", pa.string()), ("at", pa.timestamp("us", "UTC")),
         ("tags", pa.list_(pa.string())), ("value", pa.string())]
    )  # fmt: skip

    assert Records(Visit, []).to_arrow().schema == Records(Visit, VISITS).to_arrow().schema == expected
    assert [json.loads(each) for each in Records(Visit, VISITS).to_arrow()["value"].to_pylist()] == [1.5, {"x": 1}]


def test_records_are_a_sequence() -> None:
    found = Records(Visit, VISITS)

    assert found[0].page == "home" and found[-1]["user"] == 8 and VISITS[1] in found
    assert [each.user for each in found[1:]] == [8] and list(reversed(found)) == list(VISITS)[::-1]
    with pytest.raises(KeyError, match="no column 'pages'; there are"):
        found[0]["pages"]


def test_a_row_has_its_columns_as_attributes() -> None:
    row = Row({"user": 7, "visits:1d": 2})

    assert (row.user, row["visits:1d"]) == (7, 2) and row == Row({"user": 7, "visits:1d": 2})
    assert copy.copy(row) == pickle.loads(pickle.dumps(row)) == row
    with pytest.raises(AttributeError, match="no column 'page'"):
        row.page  # noqa: B018  # reading it is what fails
    assert repr(row) == "Row(user=7, visits:1d=2)"


def test_a_result_shows_its_values_and_times() -> None:
    assert repr(Records(Visit, VISITS)) == (
        "Visit: 2 rows\n"
        "user  page  at                    tags    value\n"
        "7     home  2026-11-23T12:00:00Z  [a, b]  1.5\n"
        "8     null  2026-11-23T12:00:00Z  []      x=1"
    )
    assert repr(Records(Visit, [])) == "Visit: 0 rows"
    assert repr(audit_report()).splitlines()[0] == (
        "Audit of 2026-11-23T12:00:00Z: 9 of 10 values of 10 keys equal, 1 difference"
    )
    assert repr(explanation()).splitlines()[::2] == ["visits:count is 1.", "2026-11-23T12:00:00Z  counts"]


def test_one_record_shows_all_of_its_columns_in_a_notebook() -> None:
    html = Visit(7, "<b>", NOON, ["a"], None)._repr_html_()

    assert "<p>Visit</p>" in html and "<td>page</td><td>&lt;b&gt;</td>" in html
    assert all(f"<td>{name}</td>" in html for name in ("user", "at", "tags", "value"))


def test_html_is_escaped() -> None:
    table = pa.table({"<b>": ["<script>alert(1)</script>", "a & b"]})
    shown = TableResult(table, "Sample of '<i>'")._repr_html_()

    assert "<script>" not in shown and "<b>" not in shown and "<i>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown and "a &amp; b" in shown and shown.count("<tr>") == 3


def test_what_is_not_shown_is_counted() -> None:
    rows = [[i, "x" * 100] for i in range(1000)]
    shown = text_table("Rows", ["n", "text"], rows)

    assert len(shown.splitlines()) == SHOWN_ROWS + 3 and "xxx…" in shown
    assert shown.endswith("(the first 10 of 1,000 rows)") and "(the first 10 of 1,000 rows)" in html_table(
        "Rows", ["n", "text"], rows
    )
    wide = text_table("Rows", [f"column_{i:02}" for i in range(30)], [["value"] * 30])
    assert max(map(len, wide.splitlines()[:-1])) <= 120 and "column_29)" in wide.splitlines()[-1]


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert "\x1b" not in text_table("Rows", ["text"], [["\x1b[31mred\n"]])


def test_a_frame_without_its_package_says_what_to_install() -> None:
    with pytest.raises(MissingExtra, match="to_df.. needs packages"):
        require("asof_has_no_such_package", "to_df()")


def test_results_load_no_arrow() -> None:
    code = "import asof.results, sys; print([each for each in ('pyarrow', 'numpy', 'pandas') if each in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_definitions_show_what_they_say() -> None:
    user = Entity("user", join_keys=["user_id"])
    visits = LogSource(
        "visits", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at", allowed_lateness="2h"
    )
    view = FeatureView("pages", source=visits, entities=[user], schema=[Field("user_id", Int64)], ttl="7d")

    assert repr(user) == "<Entity 'user': join_keys [user_id]>"
    assert repr(view) == "<FeatureView 'pages': entities [user]; source visits; schema [user_id]; ttl 7d>"
    assert "allowed_lateness 2h" in repr(visits) and "<td>allowed_lateness</td><td>2h</td>" in visits._repr_html_()
    assert repr(FeatureService("model", [view])) == "<FeatureService 'model': features [pages]>"


def test_a_view_shows_how_each_feature_is_made_in_a_notebook() -> None:
    visits = LogSource(
        "visits", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at", timestamp_unit="ms"
    )
    made = [
        Aggregation(name="n", function="count", where="user_id > 1", window=Sliding("7d", "6h")),
        Aggregation(name="last", function="last", column="user_id"),
    ]
    html = FeatureView("pages", source=visits, entities=[], aggregations=made)._repr_html_()
    plain = FeatureView("plain", source=visits, entities=[], schema=[Field("user_id", Int64)])._repr_html_()

    assert "<td>n</td><td></td><td>count(*)</td><td>user_id &gt; 1</td><td>sliding 7d hop 6h</td>" in html
    assert "<td>last</td><td></td><td>last(user_id)</td><td></td><td>all events</td>" in html
    assert "<td>user_id</td><td>Int64</td>" in plain and "aggregate" not in plain.partition("Features")[2]


def test_a_plan_shows_its_errors_then_its_changes() -> None:
    finding = Finding("error", "feature view 'pages'", "features.py:3", "column 'a'", "none")
    created = Create("entity", "user", (FieldChange("join_keys", None, "user_id"),))
    plan = Plan("shop", 3, Project(), (created, NewGeneration("pages", None, "abc")), (finding,))

    first, _, *lines = repr(plan).splitlines()
    assert first == "Plan of project 'shop' against version 3: 2 changes, 1 error"
    assert [line.split("  ")[0] for line in lines] == ["error", "create", "new generation"]
    assert "+ join_keys: user_id" in lines[1] and "<th>step</th>" in plan._repr_html_()
