"""One value never stops a stream or kills a process, whatever way it comes in: messages, pushes, frames, requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asof import FeatureStore
from asof.errors import EntityFrameError, RowsRefused
from asof.store import open_store_of
from tests.embedded.test_server import asked

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AT = "2026-01-01T23:30:00Z"
DEFINITIONS = """
from asof import *
from asof.types import *

hour = Sliding("1h")
user = Entity("user", join_keys=["user_id"])
fields = [
    Field("user_id", Int64), Field("price", Decimal(10, 2)), Field("name", String), Field("doc", Json),
    Field("day", Date), Field("origin", String), Field("at", Timestamp),
]
visits = LogSource("visits", schema=fields, timestamp_field="at", header_fields={"origin": "origin"},
                   dead_letter_topic="visits.dead")
counted = FeatureView("counted", entities=[user], source=visits, aggregations=[
    Aggregation("", "count", window=hour, name="n"), Aggregation("price", "max", window=hour, name="most")])
latest = FeatureView("latest", entities=[user], source=visits, schema=fields[1:6])
sales = PushSource("sales", schema=[Field("price", Decimal(10, 2)), Field("doc", Json), Field("name", String),
                                    Field("score", Float64), Field("at", Timestamp)], timestamp_field="at")
sold = FeatureView("sold", entities=[Entity("sale", join_keys=["price"])], source=sales, schema=[Field("name", String)])
asked = RequestSource("asked", schema=[Field("doc", Json), Field("amount", Decimal(10, 2)), Field("word", String)])

@on_demand_feature_view(sources=[sold, asked], schema=[Field("said", String)], mode="python")
def said(row):
    return {"said": row["word"]}
"""


@pytest.fixture
def clock() -> list[datetime]:
    return [NOW]


@pytest.fixture
def store(tmp_path: Path, clock: list[datetime]) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n", encoding="utf-8")
    (tmp_path / "features.py").write_text(DEFINITIONS, encoding="utf-8")
    with FeatureStore(tmp_path, clock=lambda: clock[0]) as store:
        store.apply()
        yield store


def visit(**more: Any) -> bytes:
    return json.dumps({"user_id": 1, "price": "1.50", "name": "a", "at": AT, **more}).encode()


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


POISONS = {
    "deep and undeclared": visit()[:-1] + b', "more": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "deep and declared": visit()[:-1] + b', "doc": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001,
    "a small exponent": visit(price="1e-999999999"),
    "a zero of a great exponent": visit(price="0e999999999"),
    "a lone surrogate": visit(name="\ud800"),
    "no UTF-8": visit()[:-1] + b', "more": "\xff"}',
    "no JSON in JSON": visit(doc="NaN"),
    "five thousand digits": visit()[:-1] + b', "user_id": ' + b"9" * 5000 + b"}",
    "nothing": b"",
}


def test_each_poison_is_a_letter_the_stream_goes_on_and_every_look_at_it_says_the_same(store: FeatureStore) -> None:
    log = open_store_of(store).stores.log
    values = [each for poison in POISONS.values() for each in (poison, visit())]
    headers = [(("origin", b"[0,4]" if place % 4 else b"web\xff"[: 3 + place % 2]),) for place in range(len(values))]
    times = [2**62 if place % 2 else -(2**62) for place in range(len(values))]
    log.send("visits", values, partition=0, headers=headers, timestamps_us=times, durable=True)

    counts = store.stream_run(until_caught_up=True)

    assert (counts["events"], counts["dead letters"]) == (len(values), len(POISONS))
    answer = store.get_online_features(["counted:n", "counted:most"], [{"user_id": 1}]).to_dict()
    assert answer["n"] == [len(POISONS)] and answer["most"] == [Number("1.50")]
    dead_letters = {each["id"]: each["reason"] for each in store.dead_letters().to_dicts()}
    assert sorted(dead_letters) == sorted(f"visits/0/{2 * place}" for place in range(len(POISONS)))
    for name, reason in dead_letters.items():
        shown = store.dead_letter(name)
        assert (shown["reason"], shown["refused_now"], shown["replayed"]) == (reason, reason, False)
    assert store.replay_dead_letters("visits").to_dict() == {"sent": 0, "already": 0, "still_unfit": dead_letters}

    log.send("visits", [visit()], partition=0, durable=True)
    assert store.stream_run(until_caught_up=True)["dead letters"] == 0
    assert len(store.dead_letters()) == len(POISONS)


def test_a_letter_that_fits_by_now_is_replayed_with_its_own_header_of_any_name(
    store: FeatureStore, clock: list[datetime]
) -> None:
    early = visit(user_id=5, at="2026-01-02T01:00:00Z")
    open_store_of(store).stores.log.send("visits", [early], headers=[(("origin", b"web"),)], partition=0, durable=True)
    assert store.stream_run(until_caught_up=True)["dead letters"] == 1
    clock[0] = datetime(2026, 1, 2, 2, tzinfo=UTC)

    assert store.replay_dead_letters("visits")["sent"] == 1
    store.stream_run(until_caught_up=True)

    assert store.get_online_features(["latest:origin"], [{"user_id": 5}]).to_dict()["origin"] == ["web"]
    assert store.replay_dead_letters("visits").to_dict() == {"sent": 0, "already": 1, "still_unfit": {}}


VALUES: dict[str, Any] = {
    "a small exponent": "1e-999999999", "a zero": "0e-999999999", "a great one": "1e999999999",
    "a Decimal": Number("1e-999999999"), "a NaN": Number("sNaN"), "half a character": "\ud800", "depth": deep(900),
    "all depth": deep(100_000), "digits": "9" * 10_000, "a great integer": 10**5000,
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_key_that_nothing_can_hold_is_refused_in_words(store: FeatureStore, value: Any) -> None:
    frame = pd.DataFrame({"price": pd.Series([value], dtype=object)})
    for rows in ([{"price": value}], {"price": [value]}, frame):
        if value is not VALUES["a NaN"] or rows is not frame:
            with pytest.raises(EntityFrameError, match="price"):
                store.get_online_features(["sold:name"], rows)
    for rows in (frame.assign(event_timestamp=NOW), {"price": [value], "event_timestamp": [NOW]}):
        with pytest.raises(EntityFrameError, match="price"):
            store.get_historical_features(rows, ["sold:name"]).to_arrow()


@pytest.mark.parametrize("column", ["price", "doc", "name", "score", "at"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_pushed_value_that_nothing_can_hold_is_refused_by_its_row(
    store: FeatureStore, value: Any, column: str
) -> None:
    row = {"price": "1.50", "doc": "{}", "name": "a", "score": 1.0, "at": NOW, column: value}
    is_text = isinstance(value, str) and value.isascii()
    if is_text and (column == "name" or (column == "doc" and value is not VALUES["digits"])):
        return  # such text fits, and so does a number that JSON can write
    frame = pd.DataFrame({name: pd.Series([each], dtype=object) for name, each in row.items()})
    for rows in ([row], {name: [each] for name, each in row.items()}, frame):
        if isinstance(value, Number) and value.is_nan() and rows is frame:
            continue  # pandas counts it as missing
        with pytest.raises(RowsRefused, match=column):
            store.push("sales", rows)


REQUESTS = [
    ({"price": '"1e-999999999"'}, "'price' in entity row 0"),
    ({"price": '"0e-999999999"'}, "'price' in entity row 0"),
    ({"price": "[" * 900 + "]" * 900}, "'price' in entity row 0"),
    ({"price": "9" * 4000}, "'price' in entity row 0"),
    ({"amount": '"1e-999999999"'}, "'amount' in entity row 0"),
    ({"amount": "[" * 400 + "]" * 400}, "'amount' in entity row 0"),
    ({"doc": "[" * 900 + "]" * 900}, "'doc' in entity row 0"),
    ({"doc": '"' + "[" * 900 + '"'}, "'doc' in entity row 0"),
    ({"doc": '"NaN"'}, "'doc' in entity row 0"),
    ({"word": r'"\ud800"'}, "the request's body"),
    ({"word": "[" * 100_000}, "the request's body"),
]


@pytest.mark.parametrize(("changed", "words"), REQUESTS)
def test_a_request_with_such_a_value_is_refused_and_the_next_one_is_answered(
    store: FeatureStore, tmp_path: Path, changed: dict[str, str], words: str
) -> None:
    given = {"price": '"1.50"', "doc": '"{}"', "amount": '"2"', "word": '"x"'}

    def body(values: dict[str, str]) -> bytes:
        columns = ", ".join(f'"{name}": [{value}]' for name, value in values.items())
        return f'{{"features": ["said:said"], "entities": {{{columns}}}}}'.encode()

    requests = [("POST", "/get-online-features", body(each)) for each in (given | changed, given)]
    refused, answered = asked(tmp_path, *requests)

    assert refused.status_code in (400, 422) and words in refused.text
    assert answered.status_code == 200 and answered.json()["results"][-1]["values"] == ["x"]
