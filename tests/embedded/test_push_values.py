"""A push reads back as it was written, in every type and to any depth: by who applies it, takes it over or builds anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pytest

from asof.definitions import Entity, FeatureView, Field, PushSource, project_of
from asof.dtypes import DType
from asof.errors import PushNotApplied, StorageError
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.batch.rebuild import rebuild_views
from asof.flows.push.pusher import Pusher
from asof.flows.rows.pushed import pushed_rows
from asof.flows.stores import Parts
from asof.testing.clock import MicrosClock
from asof.timing import moment
from asof.types import (
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
)
from tests.parts import close, embedded_parts, read_online

VALUES: list[tuple[DType, list[Any]]] = [
    (Bool, [True, False]), (Int32, [-(2**31), 2**31 - 1]), (Int64, [-(2**63), 2**63 - 1]),
    (Float32, [math.nan, -math.inf, -0.0, 3.4028234663852886e38]), (Float64, [math.nan, math.inf, -0.0, 5e-324]),
    (Decimal(38, 0), [Number("9" * 38), Number("-" + "9" * 38)]), (Decimal(38, 38), [Number("0." + "9" * 38)]),
    (String, ["", "NaN", "é\n\u2028\"'\\"]), (Bytes, [b"", b"\0\xff", b"NaN"]),
    (Date, [date(1, 1, 1), date(9999, 12, 31)]), (Json, ['{"a": [null, 1.0, "\\u0000"]}', "null", '"NaN"']),
    (Timestamp, [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]),
    (Embedding(3), [[math.nan, math.inf, -0.0], [1.5, -math.inf, 0.0]]),
]  # fmt: skip
DEPTH = 3


def columns() -> dict[str, tuple[DType, list[Any]]]:
    """Name → type, and the values of four rows: each type, lists of it, of these, and lists of those, with nulls."""
    found = {}
    for number, (dtype, values) in enumerate(VALUES):
        for depth in range(DEPTH + 1):
            found[f"v{number}_{depth}"] = dtype, [*(values * 3)[:3], None]
            dtype, values = Array(dtype), [values, [values[0], None], [], [None]]
    return found


COLUMNS = columns()
ROWS = [{name: values[row] for name, (_, values) in COLUMNS.items()} for row in range(4)]
SCHEMA = [Field(name, dtype) for name, (dtype, _) in COLUMNS.items()]
SOURCE = PushSource("rows", [Field("user_id", Int64), Field("at", Timestamp), *SCHEMA], "at")
USER = Entity("user", join_keys=["user_id"])
VIEW = FeatureView("newest", entities=[USER], source=SOURCE, schema=[Field("user_id", Int64), *SCHEMA])


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = embedded_parts(tmp_path, clock=MicrosClock())
    apply_plan(parts, make_plan(parts, project_of([USER, SOURCE, VIEW])))
    yield parts
    close(parts)


def given(parts: Parts) -> list[dict[str, Any]]:
    return [{"user_id": user, "at": moment(parts.clock()), **row} for user, row in enumerate(ROWS)]


def expected() -> dict[str, str]:
    """As text, in which NaN is NaN and -0.0 is not 0.0."""
    return {name: repr([row[name] for row in ROWS]) for name in COLUMNS}


def served(parts: Parts) -> dict[str, str]:
    found = read_online(parts, "newest", {"user_id": list(range(4))})
    return {name: repr(found[name]) for name in COLUMNS}


def archived(parts: Parts) -> dict[str, str]:
    rows = parts.offline.rows(parts.archive_of(SOURCE))
    assert rows is not None
    table = parts.offline.sql("SELECT * FROM t ORDER BY user_id", {"t": rows}).reader().read_all()
    return {name: repr(table[name].to_pylist()).replace("<UTC>", "UTC") for name in COLUMNS}


def letters(parts: Parts) -> list[Any]:
    rows = parts.offline.rows(parts.letters_of(SOURCE))
    return [] if rows is None else parts.offline.sql("SELECT * FROM t", {"t": rows}).reader().read_all().to_pylist()


def test_who_pushed_archives_and_serves_what_was_pushed(parts: Parts) -> None:
    pusher = Pusher(parts, "rows")
    pusher.push(given(parts))
    assert served(parts) == expected()
    pusher.close()

    assert archived(parts) == normalized(parts)


def normalized(parts: Parts) -> dict[str, str]:
    """What was pushed, as the table that it was made of has it."""
    table = pushed_rows(SOURCE, given(parts), required=["at"], clock=parts.clock()).table
    return {name: repr(table[name].to_pylist()).replace("<UTC>", "UTC") for name in COLUMNS}


def test_who_takes_a_dead_process_over_finds_what_it_pushed(parts: Parts) -> None:
    pushed = Pusher(parts, "rows")
    pushed.push(given(parts))
    # It dies here, before it archives: what it pushed is in the log alone.
    pushed.ingest.close()
    taking = Pusher(parts, "rows")
    taking.close()

    assert letters(parts) == [] and archived(parts) == normalized(parts) and served(parts) == expected()


def test_a_retry_applies_what_its_first_try_wrote_to_the_log(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    pusher = Pusher(parts, "rows")
    rows = given(parts)

    def away(*_: Any, **__: Any) -> Any:
        raise StorageError("the online store is away")

    with monkeypatch.context() as patched:
        patched.setattr(parts.online, "write", away)
        with pytest.raises(PushNotApplied):
            pusher.push(rows, batch_id="a")
    assert pusher.push(rows, batch_id="a") == 0
    assert served(parts) == expected()
    pusher.close()

    assert letters(parts) == [] and archived(parts) == normalized(parts)


def test_a_generation_that_is_built_anew_holds_what_was_pushed(parts: Parts) -> None:
    pusher = Pusher(parts, "rows")
    pusher.push(given(parts))
    pusher.close()
    rebuild_views(parts, parts.registry.load(parts.project), ["newest"])

    assert served(parts) == expected()
