"""A transform's SELECT is taken apart into expressions over one message; what is more than that is refused."""

import pytest

from asof.definitions import Field, LogSource
from asof.definitions.source_types import source_of
from asof.definitions.transforms import statement
from asof.errors import DefinitionError
from asof.types import Int64, Json, String

MESSAGE = [Field("payload", Json), Field("ts", Int64)]
ROWS = [Field("user_id", Int64), Field("page", String), Field("ts", Int64)]
SELECT = """
    SELECT
        CAST(payload ->> '$.user.id' AS BIGINT) AS user_id,  -- a comment, with a comma
        lower(trim(payload ->> '$.page, FROM message')) AS "page",
        ts
    FROM message
    WHERE (payload ->> '$.kind') <> 'ping'
"""


def source(transform, **options):
    options.setdefault("message_schema", MESSAGE)
    return LogSource(
        "clicks", schema=ROWS, timestamp_field="ts", timestamp_unit="ms", transform=transform, **options
    )  # fmt: skip


def test_columns_and_condition_are_found():
    found = statement(SELECT, ["payload", "ts"])

    assert found.columns == {
        "user_id": "CAST(payload ->> '$.user.id' AS BIGINT)",
        "page": "lower(trim(payload ->> '$.page, FROM message'))", "ts": "ts",
    }  # fmt: skip
    assert found.where.strip() == "(payload ->> '$.kind') <> 'ping'"


def test_a_star_is_all_columns_of_the_message():
    assert statement('SELECT *, "a b" + 1 AS c FROM message', ["a b", "d"]).columns == {
        "a b": '"a b"', "d": '"d"', "c": '"a b" + 1',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DELETE FROM message", "is not a SELECT"),
        ("SELECT ts", "does not select FROM message"),
        ("SELECT ts FROM clicks", "does not select FROM message"),
        ("SELECT ts + 1 FROM message", "'ts \\+ 1' has no name"),
        ("SELECT ts, ts FROM message", "'ts' is selected twice"),
        ("SELECT DISTINCT ts FROM message", "DISTINCT reads more than one message"),
        ("SELECT ts FROM message GROUP BY ts", "GROUP reads more than one"),
        ("SELECT row_number() OVER () AS ts FROM message", "OVER reads more than one"),
        ("SELECT (SELECT max(ts) FROM message) AS ts FROM message", "SELECT reads more than one"),
        ("SELECT unnest([1, 2]) AS ts FROM message", "UNNEST reads more than one"),
        ("SELECT ts FROM message, message", "',' is not allowed after FROM message"),
        ("SELECT ts FROM message WHERE true ORDER BY ts", "ORDER BY has no meaning"),
        ("SELECT random() AS ts FROM message", "random gives another result"),
        ("SELECT current_timestamp AS ts FROM message", "current_timestamp gives another result"),
        ("SELECT ts, FROM message", "an item of the list is empty"),
    ],
)
def test_what_is_not_of_one_message_is_refused(sql, reason):
    with pytest.raises(ValueError, match=reason):
        statement(sql, ["ts"])


def test_columns_may_be_called_like_functions():
    assert set(statement("SELECT age, uuid, now FROM message", []).columns) == {"age", "uuid", "now"}


@pytest.mark.parametrize(
    ("transform", "options", "reason"),
    [
        ("SELECT 1 AS user_id, 'a' AS page, ts, 2 AS more FROM message", {}, "'more', which is not in schema="),
        ("SELECT 1 AS user_id, ts FROM message", {}, "does not return column 'page'"),
        ("SELECT ts FROM messages", {}, "does not select FROM message"),
        (None, {}, "message_schema= but no transform="),
    ],
)
def test_a_transform_that_does_not_make_the_schema_is_refused(transform, options, reason):
    with pytest.raises(DefinitionError, match=reason):
        source(transform, **options)


def double(messages):
    return messages


def test_it_comes_back_from_its_content():
    by_sql, by_function = source(SELECT), source(double)

    assert source_of(by_sql.content()) == by_sql
    again = source_of(by_function.content())
    assert again == by_function and again.transform.function is None
    assert again.transform.fingerprint == by_function.transform.fingerprint
    assert "def double" in again.transform.source_text
