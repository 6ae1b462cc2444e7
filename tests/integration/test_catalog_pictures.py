"""Pictures of the catalog's pages, for people to look at: 3 widths, light and dark; full, with long names, and empty."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from asof import FeatureStore
from tests.browser.chromium import HEIGHT, WIDTHS, Tab, chromium, keep_picture
from tests.browser.shop import KEYS, ShopStore, served, tell
from tests.services.processes import free_port

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

LONG = "customers_of_the_marketplace_in_all_countries_with_their_rolling_behaviour"
"""As long as names get where a team, a domain and a window are in them."""

SENTENCE = "What is known of a customer from the events of the last weeks, for the models of ranking and of fraud. " * 3

DEFINITIONS = f"""
from asof import *
from asof.types import *
from datetime import timedelta

entity = Entity("{LONG}_entity", join_keys=["{LONG}_id", "second_key_of_{LONG}"], description={SENTENCE!r},
    owner="{LONG}@department-with-a-long-name.example", tags={{"{LONG}": "{LONG}", "team": "a"}})
rows = FileSource("rows.parquet", name="{LONG}_rows", timestamp_field="at", description={SENTENCE!r},
    owner="{LONG}@department-with-a-long-name.example")
log = LogSource("{LONG}_log", schema=[Field("{LONG}_id", Int64), Field("second_key_of_{LONG}", String),
    Field("at", Timestamp)], timestamp_field="at", description={SENTENCE!r})
latest = FeatureView("{LONG}_latest", entities=[entity], source=rows, description={SENTENCE!r},
    schema=[Field("{LONG}_id", Int64), Field("second_key_of_{LONG}", String),
        Field("text_of_{LONG}", String, description={SENTENCE!r}), Field("number_of_{LONG}", Float64)],
    owner="{LONG}@department-with-a-long-name.example", tags={{"{LONG}": "{LONG}"}})
counts = FeatureView("{LONG}_counts", entities=[entity], source=log, aggregations=[
    Aggregation("", "count", name=f"{{kind}}_of_{LONG}", window=Sliding(timedelta(days=days)),
        where="second_key_of_{LONG} <> 'a value that is long enough to be cut' AND {LONG}_id > 0")
    for kind, days in (("count", 1), ("weekly", 7), ("monthly", 30))])

@on_demand_feature_view(sources=[latest], schema=[Field("derived_of_{LONG}", Float64)], mode="python")
def derived_{LONG}(row):
    return {{"derived_of_{LONG}": (row["number_of_{LONG}"] or 0) * 2}}

service = FeatureService("{LONG}_service", features=[latest, counts], description={SENTENCE!r})
"""

VIEW = f"{LONG}_latest"
PAGES: Mapping[str, Mapping[str, str]] = {
    "full": {
        "home": "/ui/", "search": "/ui/search?q=user", "feature": "/ui/feature/user_traffic/views_7d",
        "profile": "/ui/feature/user_profile/country", "on-demand": "/ui/feature/browsing_ratios/product_per_listing",
        "view": "/ui/view/user_traffic", "entity": "/ui/entity/user", "source": "/ui/source/traffic",
        "batch-source": "/ui/source/users", "service": "/ui/service/order_model", "training-sets": "/ui/training-sets",
        "training-set": "/ui/training-set/orders", "lineage": "/ui/lineage/view/user_traffic",
        "many": "/ui/lineage/view/user_windows", "runs": "/ui/runs", "apply": "/ui/runs/apply/2",
        "key": "/ui/key/user?user_id=1&at=2020-10-18&explain=user_traffic:views_7d", "sign-in": "/ui/sign-in",
    },
    "long": {
        "home": "/ui/", "search": "/ui/search?q=customers", "feature": f"/ui/feature/{VIEW}/text_of_{LONG}",
        "windows": f"/ui/feature/{LONG}_counts/weekly_of_{LONG}", "view": f"/ui/view/{LONG}_counts",
        "entity": f"/ui/entity/{LONG}_entity", "source": f"/ui/source/{LONG}_log", "batch-source": f"/ui/source/{LONG}_rows",
        "service": f"/ui/service/{LONG}_service", "training-sets": "/ui/training-sets",
        "training-set": f"/ui/training-set/{LONG}_set", "lineage": f"/ui/lineage/view/{VIEW}", "runs": "/ui/runs",
        "apply": "/ui/runs/apply/1",
        "key": f"/ui/key/{LONG}_entity?{LONG}_id=1&second_key_of_{LONG}={'x' * 90}",
    },
    "empty": {
        "home": "/ui/", "search": "/ui/search", "nothing-found": "/ui/search?q=zzzz", "training-sets": "/ui/training-sets",
        "runs": "/ui/runs",
    },
}  # fmt: skip
"""State of a store → page → address."""


def _long(folder: Path) -> ShopStore:
    repository = folder / "repo"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text("project: a_project_with_a_long_name\nclock: 2026-01-01T12:00:00Z\n")
    (repository / "features.py").write_text(DEFINITIONS)
    keys = {f"{LONG}_id": [1, 2, 3], f"second_key_of_{LONG}": ["x" * 90, "y z " * 40, "short"]}
    values = {
        f"text_of_{LONG}": ["v" * 200, "word " * 60, None],
        f"number_of_{LONG}": [1e300, -1.23456789e-7, 123456789.125],
    }
    at = pa.array([NOW] * 3, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**keys, **values, "at": at}), repository / "rows.parquet")
    with FeatureStore(repository) as store:
        store.apply()
        store.materialize()
        event = {f"{LONG}_id": 1, f"second_key_of_{LONG}": "x" * 90, "at": "2026-01-01T11:00:00Z"}
        broken = {f"{LONG}_id": "n" * 300, "at": "z" * 300}
        store.send(f"{LONG}_log", [json.dumps(each).encode() for each in (event, broken)])
        store.stream_run(until_caught_up=True)
        frame = pa.table({**keys, "event_timestamp": at})
        store.get_historical_features(frame, f"{LONG}_service").save(f"{LONG}_set")
        store.profile()
        store.audit()
    return ShopStore(folder, free_port())


def _empty(folder: Path) -> ShopStore:
    repository = folder / "repo"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text("project: shop\n")
    return ShopStore(folder, free_port())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("state", PAGES)
def test_pages_are_kept_as_pictures_and_fit_their_window(browser: Browser, tmp_path: Path, state: str) -> None:
    shop = {"full": tell, "long": _long, "empty": _empty}[state](tmp_path)
    wrong = []
    with served(shop, "ui") as address:
        tab = Tab(browser, address, key=KEYS["admin"].text if state == "full" else "")
        for name, path in PAGES[state].items():
            page = tab.open(path)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": HEIGHT})
                wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if wider > 0:
                    wrong.append(f"{path} is {wider} pixels too wide at {width}")
                for scheme in ("light", "dark"):
                    keep_picture(page, f"{state}-{name}", width=width, scheme=scheme)
        tab.close()
        assert tab.faults == []
    assert wrong == []
