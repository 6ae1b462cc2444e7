"""Values over HTTP and as request values: pushed as JSON, given with a request and a frame, read by raw JSON and the client."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from asof import Client, FeatureStore, FeatureView, Field, PushSource
from asof.server.app import App
from asof.server.process.service import Service
from asof.types import Int64, Timestamp
from tests.embedded.test_client import Bridge, client_over
from tests.matrix.cases import CASES, NOON, US, Case
from tests.matrix.messages import JSON_CASES, columns_of
from tests.matrix.outcomes import Refused
from tests.matrix.runs import AT, Found
from tests.matrix.wide import THING, read_by_case

REPOSITORY = """
from asof import *
from asof.types import *

thing = Entity("thing", join_keys=["user"])
asked = RequestSource("asked", schema=[{asked}])

@on_demand_feature_view(sources=[asked], schema=[{schema}], mode="{mode}")
def same(row):
    return {{"o" + name[1:]: value for name, value in row.items() if name.startswith("c")}}
"""


class Web:
    """A server's app over a folder's store: raw requests, and the client."""

    def __init__(self, http: httpx.Client, client: Client) -> None:
        self.http, self.client = http, client


@contextmanager
def web_over(folder: Path) -> Iterator[Web]:
    loop = asyncio.new_event_loop()
    service = Service(FeatureStore(folder, clock=lambda: AT))
    loop.run_until_complete(service.start())
    bridge = Bridge(App(service), loop)
    with client_over(bridge) as client, httpx.Client(transport=bridge, base_url="http://localhost") as http:
        yield Web(http, client)
    loop.run_until_complete(service.stop())
    loop.close()


def apply_posted(store: FeatureStore) -> None:
    """The source that `pushed_as_json` pushes to: a server has to know it."""
    columns = columns_of(JSON_CASES)
    fields = [Field("user", Int64), *(Field(columns[name], case.dtype) for name, case in JSON_CASES.items())]
    source = PushSource("posted", schema=[*fields, Field("at", Timestamp)], timestamp_field="at")
    store.apply([THING, source, FeatureView("posted_view", entities=[THING], source=source, schema=fields)])


def pushed_as_json(store: FeatureStore, web: Web) -> Found:
    """Each JSON case pushed over HTTP in a row of its own, and read back by both sides."""
    columns = columns_of(JSON_CASES)
    users, refused = {}, {}
    for place, (name, case) in enumerate(JSON_CASES.items(), 1):
        row = dict.fromkeys(columns.values(), "[null]") | {columns[name]: f"[{case.given}]"}
        row |= {"user": f"[{place}]", "at": json.dumps([NOON.isoformat()])}
        df = ", ".join(f'"{column}": {values}' for column, values in row.items())
        response = web.http.post("/push", content=f'{{"push_source_name": "posted", "df": {{{df}}}}}'.encode())
        if response.status_code == 200:
            users[name] = place
        else:
            refused[name] = Refused(
                response.text if response.status_code in (400, 422) else RuntimeError(response.text)
            )
    found = read_by_case(store, "posted_view", users, columns)
    return {way: {**cells, **refused} for way, cells in found.items()}


def json_form(value: Any) -> Any:
    """What a value is in a response's JSON, as docs/reference/http.md has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Number):
        return f"{value:f}"
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds").removesuffix(".000000")
        return f"{text}Z"
    if isinstance(value, date):
        return value.isoformat()
    return list(map(json_form, value)) if isinstance(value, list) else value


def read_over_http(web: Web, view: str, user: int, columns: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Case → its value in a response's JSON, and as the client returns it."""
    body = {"features": [f"{view}:{column}" for column in columns.values()], "entities": {"user": [user]}}
    response = web.http.post("/v1/features", json=body)
    assert response.status_code == 200, response.text
    words = response.json()
    raw = dict(zip(words["names"], words["rows"][0], strict=True))
    read = web.client.get_online_features([view], {"user": [user]}).to_dict()
    return {name: raw[column] for name, column in columns.items()}, {
        name: read[column][0] for name, column in columns.items()
    }


FORMS = {
    "arrow": lambda table: table, "pandas": lambda table: table.to_pandas(), "dicts": lambda table: table.to_pydict()
}  # fmt: skip
"""The forms in which a frame and the rows of a request are given."""


def write_repository(folder: Path, mode: str = "python") -> None:
    """A view that returns what it was asked with: `c…` of each type that the cases have, as `o…`."""
    dtypes = list(dict.fromkeys(str(case.dtype) for case in CASES.values()))
    asked = ", ".join(f'Field("c{place}", {dtype})' for place, dtype in enumerate(dtypes))
    schema = ", ".join(f'Field("o{place}", {dtype})' for place, dtype in enumerate(dtypes))
    (folder / "features.py").write_text(REPOSITORY.format(asked=asked, schema=schema, mode=mode), encoding="utf-8")


def given_with_requests(store: FeatureStore, form: str) -> Found:
    """Each case as a request's value: in an entity frame, and in the rows of an online request."""
    dtypes = list(dict.fromkeys(str(case.dtype) for case in CASES.values()))
    found: Found = {"trained": {}, "served": {}}
    for name, case in CASES.items():
        if form != "arrow" and pa.types.is_map(case.kind):
            continue  # a map is a list of pairs there, and no map
        place = dtypes.index(str(case.dtype))
        try:
            rows = FORMS[form](_request_rows(case, place, dtypes))
        except (OverflowError, ValueError):
            continue  # Python or pandas has no such value
        for side in found:
            try:
                if side == "trained":
                    result: Any = store.get_historical_features(rows, ["same"]).to_arrow()
                    found[side][name] = result[f"o{place}"][0].as_py()
                else:
                    found[side][name] = store.get_online_features(["same"], rows).to_dict()[f"o{place}"][0]
            except Exception as error:  # what is none of ours fails the cell
                found[side][name] = Refused(error)
    return found


def _request_rows(case: Case, place: int, dtypes: Sequence[str]) -> pa.Table:
    columns: dict[str, Any] = {"event_timestamp": pa.array([AT], US)}
    kinds = {str(each.dtype): each.dtype for each in CASES.values()}
    for other, dtype in enumerate(dtypes):
        columns[f"c{other}"] = case.array if other == place else pa.nulls(1, kinds[dtype].arrow())
    return pa.table(columns)


__all__ = [
    "FORMS", "Web", "apply_posted", "given_with_requests", "json_form", "pushed_as_json", "read_over_http", "web_over",
    "write_repository",
]  # fmt: skip
