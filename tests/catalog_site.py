"""The catalog's site over a store, for tests: it waits for what it shows, however busy the machine is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from asof import FeatureStore
from asof.catalog.live import LiveValues
from asof.catalog.site import Site
from asof.catalog.viewer import Owner
from asof.store import open_store_of


class PatientValues(LiveValues):
    """Live values without budgets, asked for again each time."""

    def get(self, key: Any, work: Any, **_: Any) -> Any:
        return super().get(key, work, budget_s=60, max_age_s=0.0)

    def later(self, key: Any, work: Any, **_: Any) -> Any:
        return super().get(key, work, budget_s=60, max_age_s=0.0)


class SiteOf:
    """The pages of one store, as their owner sees them."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def html(self, path: str, **query: str) -> str:
        return self.site.respond(f"/ui/{path}", query, Owner()).body.decode()

    def json(self, path: str, **query: str) -> Any:
        return json.loads(self.site.respond(f"/ui/{path}.json", query, Owner()).body)

    def at(self, address: str) -> Any:
        """The JSON of a page, by the address in a link."""
        path, _, query = address.partition("#")[0].partition("?")
        return json.loads(self.site.respond(f"{path}.json", _query(query), Owner()).body)


def _query(text: str) -> Mapping[str, str]:
    from urllib.parse import parse_qsl

    return dict(parse_qsl(text))


@contextmanager
def site_of(store: FeatureStore) -> Iterator[SiteOf]:
    """The site of a store that is open."""
    site = Site(store, snapshot=open_store_of(store).snapshot, live=PatientValues())
    try:
        yield SiteOf(site)
    finally:
        site.close()
