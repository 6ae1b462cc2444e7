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
from asof.flows.stores import Stores
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
from tests.embedded_stores import close, embedded_stores, read_online

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
def stores(tmp_path: Path) -> Iterator[Stores]:
    stores = embedded_stores(tmp_path, clock=MicrosClock())
    apply_plan(stores, make_plan(stores, project_of([USER, SOURCE, VIEW])))
    yield stores
    close(stores)


def given(stores: Stores) -> list[dict[str, Any]]:
    return [{"user_id": user, "at": moment(stores.clock()), **row} for user, row in enumerate(ROWS)]


def expected() -> dict[str, str]:
    """As text, in which NaN is NaN and -0.0 is not 0.0."""
    return {name: repr([row[name] for row in ROWS]) for name in COLUMNS}


def served(stores: Stores) -> dict[str, str]:
    found = read_online(stores, "newest", {"user_id": list(range(4))})
    return {name: repr(found[name]) for name in COLUMNS}


def archived(stores: Stores) -> dict[str, str]:
    rows = stores.offline.rows(stores.archive_of(SOURCE))
    assert rows is not None
    table = stores.offline.sql("SELECT * FROM t ORDER BY user_id", {"t": rows}).reader().read_all()
    return {name: repr(table[name].to_pylist()).replace("<UTC>", "UTC") for name in COLUMNS}


def dead_letters(stores: Stores) -> list[Any]:
    rows = stores.offline.rows(stores.dead_letters_of(SOURCE))
    return [] if rows is None else stores.offline.sql("SELECT * FROM t", {"t": rows}).reader().read_all().to_pylist()


def test_who_pushed_archives_and_serves_what_was_pushed(stores: Stores) -> None:
    pusher = Pusher(stores, "rows")
    pusher.push(given(stores))
    assert served(stores) == expected()
    pusher.close()

    assert archived(stores) == normalized(stores)


def normalized(stores: Stores) -> dict[str, str]:
    """What was pushed, as the table that it was made of has it."""
    table = pushed_rows(SOURCE, given(stores), required=["at"], clock=stores.clock()).table
    return {name: repr(table[name].to_pylist()).replace("<UTC>", "UTC") for name in COLUMNS}


def test_who_takes_a_dead_process_over_finds_what_it_pushed(stores: Stores) -> None:
    pushed = Pusher(stores, "rows")
    pushed.push(given(stores))
    # It dies here, before it archives: what it pushed is in the log alone.
    pushed.ingest.close()
    taking = Pusher(stores, "rows")
    taking.close()

    assert dead_letters(stores) == [] and archived(stores) == normalized(stores) and served(stores) == expected()


def test_a_retry_applies_what_its_first_try_wrote_to_the_log(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    pusher = Pusher(stores, "rows")
    rows = given(stores)

    def away(*_: Any, **__: Any) -> Any:
        raise StorageError("the online store is away")

    with monkeypatch.context() as patched:
        patched.setattr(stores.online, "write", away)
        with pytest.raises(PushNotApplied):
            pusher.push(rows, batch_id="a")
    assert pusher.push(rows, batch_id="a") == 0
    assert served(stores) == expected()
    pusher.close()

    assert dead_letters(stores) == [] and archived(stores) == normalized(stores)


def test_a_generation_that_is_built_anew_holds_what_was_pushed(stores: Stores) -> None:
    pusher = Pusher(stores, "rows")
    pusher.push(given(stores))
    pusher.close()
    rebuild_views(stores, stores.registry.load(stores.project), ["newest"])

    assert served(stores) == expected()
