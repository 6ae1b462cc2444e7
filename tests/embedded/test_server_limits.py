"""The limits of a request: what is at one is served, what is above is refused with its number and its setting."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from tests.embedded.test_server import DEFINITIONS, NOW, asked, built, folder, refusal, write_sources

__all__ = ["built", "folder"]

READ, LEAN, PUSH, WRITE = "/get-online-features", "/v1/features", "/push", "/write-to-online-store"
AGE: dict[str, Any] = {"features": ["profile:age"], "entities": {"user_id": [1, 2]}}
AT = NOW.isoformat()


def pushed(n: int) -> dict[str, Any]:
    rows = {"user_id": [1] * n, "page": ["a,[{"] * n, "amount": [1.5] * n, "at": [AT] * n}
    return {"push_source_name": "clicks", "df": rows}


def written(n: int) -> dict[str, Any]:
    return {"feature_view_name": "pair", "df": {
        "user_id": [1] * n, "shop_id": ["a"] * n, "visits": [1] * n, "event_timestamp": [AT] * n,
    }}  # fmt: skip


CASES: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "rows": (READ, AGE, "max_rows", 2),
    "rows of the lean route": (LEAN, AGE, "max_rows", 2),
    "objects as rows": (LEAN, {"features": "profile:age", "entities": [{"user_id": 1}] * 3}, "max_rows", 3),
    "features": (READ, {**AGE, "features": ["profile:age", "profile:city"]}, "max_features", 2),
    "features of the lean route": (LEAN, {**AGE, "features": ["profile:age", "profile:city"]}, "max_features", 2),
    "columns": (READ, {**AGE, "entities": {"user_id": [1], "a": [1], "b": [2]}}, "max_features", 3),
    "columns of objects": (
        LEAN, {**AGE, "entities": [{"user_id": 1}, {"user_id": 1, "b": 2, "c": 3}]}, "max_features", 3,
    ),
    "pushed rows": (PUSH, pushed(3), "max_push_rows", 3),
    "written rows": (WRITE, written(3), "max_push_rows", 3),
    "pushed columns": (PUSH, pushed(1), "max_features", 4),
    "written columns": (WRITE, written(1), "max_features", 4),
    # Lists and objects are values, too.
    "values": (READ, AGE, "max_values", 7),
    "pushed values": (PUSH, pushed(2), "max_values", 15),
    # Two rows of a key and a feature.
    "cells": (READ, AGE, "max_response_bytes", 128),
    "cells of the lean route": (LEAN, AGE, "max_response_bytes", 128),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_request_above_a_limit_is_refused_with_the_name_of_the_setting(folder: Path, case: str) -> None:
    path, content, setting, limit = CASES[case]
    (served,) = asked(folder, ("POST", path, content), **{setting: limit})
    (refused,) = asked(folder, ("POST", path, content), **{setting: limit - 1})

    assert served.status_code == 200, served.content
    assert refused.status_code == 413
    words = refused.json() if path == LEAN else refusal(refused)
    assert re.search(rf"; the limit is {limit - 1}\b", words["message"])
    assert f"server.{setting}" in (words["hint"] if path == LEAN else words["message"])


@pytest.mark.parametrize("n", [1, 300, 2000])
def test_rows_are_read_only_up_to_the_size_of_a_response(tmp_path: Path, n: int) -> None:
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nclock: {AT}\n")
    (tmp_path / "features.py").write_text(DEFINITIONS)
    write_sources(tmp_path)
    rows = pq.read_table(tmp_path / "profile.parquet")
    texts = pa.array(["a" * 200_000, None, None])
    times = pa.array([NOW - timedelta(hours=1)] * 3, pa.timestamp("us", "UTC"))
    rows = rows.set_column(rows.column_names.index("city"), "city", texts)
    pq.write_table(rows.set_column(rows.column_names.index("at"), "at", times), tmp_path / "profile.parquet")
    with FeatureStore(tmp_path, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()

    body = {"features": ["profile:city"], "entities": {"user_id": [1] * n}}
    answers = asked(tmp_path, ("POST", READ, body), ("POST", LEAN, body), max_response_bytes=1_000_000)

    assert {each.status_code for each in answers} == {200 if n == 1 else 413}
    if n > 1:
        assert "the limit is 1000000" in answers[1].json()["message"]


def test_large_bodies_and_responses_are_those_of_small_ones(built: Path) -> None:
    users = [1, 2, 3] * 2000
    features = ["profile:age", "profile:score", "profile:seen", "profile:scores"]
    large, small, spaced = asked(
        built,
        ("POST", READ, {"features": features, "entities": {"user_id": users}}),
        ("POST", READ, {"features": features, "entities": {"user_id": users[:3]}}),
        ("POST", READ, json.dumps({"features": features, "entities": {"user_id": users}}, indent=9).encode()),
    )  # fmt: skip

    assert large.content == spaced.content
    for many, few in zip(large.json()["results"], small.json()["results"], strict=True):
        assert many == {name: values * 2000 for name, values in few.items()}
