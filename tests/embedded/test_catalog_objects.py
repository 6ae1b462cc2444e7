"""The pages of features, entities, services and keys: what they show is what the store says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.catalog.descriptions import describe_feature
from asof.catalog.live import LiveValue, LiveValues
from asof.catalog.site import Site
from asof.catalog.viewer import Owner
from asof.errors import NotFound, RequestError
from asof.flows.use import count_served
from asof.store import open_store_of
from asof.timing import iso, micros
from tests.catalog_site import SiteOf, site_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = "someone@example.com"
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"], description="Who buys", owner="crm")
person = Entity("person", join_keys=["email"], tags={"pii": "true"})
rows = FileSource("profile.parquet", name="rows", timestamp_field="at")
people = FileSource("people.parquet", name="people", timestamp_field="at")
traffic = LogSource("traffic", schema=[Field("user_id", Int64), Field("page", String), Field("secret", String,
    tags={"pii": "email"}), Field("at", Timestamp)], timestamp_field="at")
profile = FeatureView("profile", entities=[user], source=rows, schema=[Field("user_id", Int64), Field("age", Int64),
    Field("mail", String, tags={"pii": "true"})], ttl="30d", tags={"team": "crm"}, owner="crm")
counts = FeatureView("counts", entities=[user], source=traffic, description="Visits", aggregations=[
    Aggregation("", "count", window=Sliding("1d"), name="n_1d"),
    Aggregation("page", "last", where="page <> 'x'", window=Session("1h"), name="page"),
    Aggregation("secret", "last", name="last_secret")])
people_view = FeatureView("people_view", entities=[person], source=people,
    schema=[Field("email", String), Field("age", Int64)])
archived = FeatureView("archived", entities=[user], source=rows, online=False,
    schema=[Field("user_id", Int64), Field("age", Int64)])

@on_demand_feature_view(sources=[profile[["age"]]], schema=[Field("twice", Int64)], mode="python", description="Doubled")
def doubled(row):
    return {"twice": None if row["age"] is None else 2 * row["age"]}

model = FeatureService("model", features=[counts[["n_1d"]], profile[["age"]], doubled], description="Who buys next")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    (folder / "feature_store.yaml").write_text("project: shop\n")
    (folder / "features.py").write_text(DEFINITIONS)
    ages = [NOW - timedelta(days=3), NOW - timedelta(days=1)]
    at = pa.array([*ages, ages[0]], pa.timestamp("us", "UTC"))
    pq.write_table(
        pa.table({"user_id": [7, 7, 8], "age": [30, 31, None], "mail": [SECRET] * 3, "at": at}),
        folder / "profile.parquet",
    )
    pq.write_table(pa.table({"email": [SECRET], "age": [1], "at": at[:1]}), folder / "people.parquet")
    with opened(folder) as store:
        store.apply()
        store.materialize()
        events = [
            {"user_id": 7, "page": page, "secret": SECRET, "at": iso(micros(NOW - timedelta(minutes=ago)))}
            for page, ago in (("a", 3000), ("b", 90), ("x", 1), ("c", 2))
        ]
        store.send("traffic", [*(json.dumps(each).encode() for each in events), b"not JSON"])
        store.stream_run(until_caught_up=True)
        store.get_historical_features(
            'SELECT user_id, "at" AS event_timestamp FROM rows', ["profile:age", "counts:n_1d"]
        ).save("first")  # fmt: skip
    return folder


def opened(folder: Path) -> FeatureStore:
    return FeatureStore(folder, clock=lambda: NOW)


@pytest.fixture
def store(folder: Path) -> Iterator[FeatureStore]:
    with opened(folder) as store:
        yield store


@pytest.fixture
def site(store: FeatureStore) -> Iterator[SiteOf]:
    with site_of(store) as site:
        yield site


def test_served_keys_that_are_personal_data_are_null(store: FeatureStore) -> None:
    assert store.online_keys("people_view").to_arrow().to_pydict() == {"email": [None]}
    assert sorted(store.online_keys("profile").to_arrow()["user_id"].to_pylist()) == [7, 8]


class TestKey:
    def test_the_values_are_those_of_the_store_now_and_as_of_the_chosen_moment(
        self, site: SiteOf, store: FeatureStore
    ) -> None:
        at = NOW - timedelta(days=2)
        page = site.json("key/user", user_id="7", at=iso(micros(at)))
        references = ["profile:age", "counts:n_1d", "counts:page", "doubled:twice", "archived:age"]
        served = [each for each in references if not each.startswith("archived")]
        online = store.get_online_features(served, [{"user_id": 7}], full_feature_names=True)
        frame = pa.table({"user_id": [7], "event_timestamp": pa.array([at], pa.timestamp("us", "UTC"))})
        history = store.get_historical_features(frame, references, full_feature_names=True).to_arrow()
        for reference in references:
            view, _, name = reference.partition(":")
            column = f"{view}__{name}"
            assert page["then"]["value"][view]["values"][name]["value"] == history[column][0].as_py()
            if view != "archived":
                value = page["now"]["value"][view]["values"][name]
                assert (value["value"], value["status"]) == (online.to_dict()[column][0], online.statuses[column][0])
        assert "archived" not in page["now"]["value"]
        assert page["then"]["value"]["profile"]["values"]["age"]["value"] == 30
        assert page["now"]["value"]["profile"]["values"]["age"]["value"] == 31
        html = site.html("key/user", user_id="7", at=iso(micros(at)))
        assert ">31<" in html and '"differs">30<' in html

    @pytest.mark.parametrize("reference", ["profile:age", "counts:n_1d", "counts:page", "doubled:twice"])
    @pytest.mark.parametrize("at", ["", "2025-12-31T13:00:00Z"])
    def test_each_value_links_to_its_explanation(
        self, site: SiteOf, store: FeatureStore, reference: str, at: str
    ) -> None:
        page = site.json("key/user", user_id="7", at=at)
        (url,) = [
            each["explain_url"]
            for view in page["views"]
            for each in view["features"]
            if f"{view['name']}:{each['name']}" == reference
        ]
        shown = site.at(url)["explanation"]["value"]
        expected = store.explain(reference, {"user_id": 7}, at=at or None)
        assert (shown["value"], shown["text"], shown["count"]) == (expected.value, expected.text, len(expected))
        view, _, name = reference.partition(":")
        part = page["then" if at else "now"]["value"]
        assert shown["value"] == part[view]["values"][name]["value"]
        if reference.startswith("counts"):
            assert shown["rows"][0][shown["columns"].index("why")] == expected.to_arrow()["why"][0].as_py()

    def test_what_is_tagged_pii_is_shown_nowhere(self, site: SiteOf) -> None:
        for query in ({}, {"at": iso(micros(NOW))}, {"explain": "profile:age"}, {"explain": "counts:page"}):
            for text in (
                site.html("key/user", user_id="7", **query),
                json.dumps(site.json("key/user", user_id="7", **query)),
            ):
                assert SECRET not in text and "secret" not in text.replace("<wbr>", "").replace("last_secret", ""), (
                    query
                )
        assert site.html("key/user", user_id="7").count("hidden: tagged pii") == 2
        for reference in ("profile:mail", "counts:last_secret"):
            with pytest.raises(RequestError, match="tagged pii"):
                site.json("key/user", user_id="7", explain=reference)
        # A key that one knows may be looked at; none is listed.
        assert site.json("key/person", email=SECRET)["now"]["value"]["people_view"]["values"]["age"]["value"] == 1
        for path in ("key/person", "entity/person", "feature/people_view/age"):
            assert SECRET not in site.html(path), path

    def test_an_unknown_key_is_said_to_be_one(self, site: SiteOf) -> None:
        page = site.json("key/user", user_id="999")
        assert page["is_unknown"]
        assert page["now"]["value"]["profile"]["values"]["age"]["status"] == "NOT_FOUND"
        assert page["now"]["value"]["counts"]["values"]["n_1d"]["value"] == 0
        assert "No event or row of this key is served" in site.html("key/user", user_id="999")
        assert not site.json("key/user", user_id="7")["is_unknown"]

    @pytest.mark.parametrize("query, said", [
        ({"user_id": "seven"}, "join key 'user_id': 'seven' is not Int64"),
        ({"user_id": "7.5"}, "is not Int64"), ({"user_id": "9223372036854775808"}, "is not Int64"),
        ({"user_id": "7", "at": "yesterday"}, "is not a time"),
        ({"user_id": "7", "explain": "profile:agee"}, "no such feature"),
    ])  # fmt: skip
    def test_what_does_not_fit_is_refused_with_the_reason(self, site: SiteOf, query: dict[str, str], said: str) -> None:
        with pytest.raises(RequestError, match=said):
            site.json("key/user", **query)

    def test_without_a_key_it_offers_some_that_are_served(self, site: SiteOf) -> None:
        page = site.json("key/user")
        assert page["now"] is None
        assert [each["text"] for each in page["examples"]["value"]] == ["7"]
        assert site.at(page["examples"]["value"][0]["url"])["now"]["value"]["profile"]["values"]["age"]["value"] == 31

    def test_an_unknown_entity_has_no_page(self, site: SiteOf) -> None:
        with pytest.raises(NotFound, match="no entity 'usr'"):
            site.json("key/usr")


def test_the_json_of_a_page_is_that_of_what_was_asked_for(site: SiteOf) -> None:
    html = site.html("key/user", user_id="7", at="2025-12-31T13:00:00Z")
    assert 'href="/ui/key/user.json?user_id=7&amp;at=2025-12-31T13%3A00%3A00Z"' in html


class TestFeature:
    def test_it_says_what_the_feature_is(self, site: SiteOf, store: FeatureStore) -> None:
        page = site.json("feature/counts/page")
        assert (page["type"], page["expression"]) == ("String", "last(page) where page <> 'x', session gap 1h")
        assert page["columns"]["value"] == ["page"] and page["columns"]["where"] == ["page"]
        assert page["reads"] == [{"text": "traffic", "url": "/ui/source/traffic"}]
        assert page["defined_at"].startswith("features.py:")
        assert page["meaning"] == describe_feature(store.get_feature_view("counts"), "page")
        assert "<code>page</code>" in site.html("feature/counts/page")
        assert page["use"] == {"requests": 0, "training_sets": 0, "requests_by_day": []}
        assert site.json("feature/counts/n_1d")["use"]["training_sets"] == 1
        derived = site.json("feature/doubled/twice")
        assert [each["text"] for each in derived["inputs"]] == ["profile:age"]
        assert "def doubled(row):" in derived["function"]

    def test_without_a_profile_it_says_how_to_make_one_and_then_shows_it(
        self, site: SiteOf, store: FeatureStore
    ) -> None:
        page = site.html("feature/profile/age")
        assert "No profile yet" in page and "asof profile profile" in page
        store.profile(["profile", "counts"])
        (kept,) = store.kept_profiles("profile")
        own = kept.feature("age")
        assert own is not None and own.null_share == 1 / 3
        trust = site.json("feature/profile/age")["trust"]["value"]
        assert (trust["profile"]["nulls"], trust["profile"]["rows"]) == (1, 3)
        assert trust["over_time"] == [], "one profile is no series"
        assert "33.3 %" in site.html("feature/profile/age")
        for name in ("profile/mail", "counts/last_secret"):
            hidden = json.dumps(site.json(f"feature/{name}")) + site.html(f"feature/{name}")
            assert "tagged pii" in hidden and SECRET not in hidden
            assert site.json(f"feature/{name}")["trust"]["value"]["over_time"] == []
        view = site.json("view/profile")["trust"]["value"]
        age, mail = view["features"]
        assert (view["rows"], age["name"], age["profile"]["nulls"], mail["profile"]["is_hidden"]) == (3, "age", 1, True)
        assert "hidden: tagged pii" in site.html("view/profile") and SECRET not in site.html("view/profile")

    def test_its_profiles_are_series_over_time_without_those_of_hidden_values(self, folder: Path) -> None:
        with FeatureStore(folder, clock=lambda: NOW + timedelta(days=1)) as store, site_of(store) as site:
            store.profile(["profile"])
            store.profile(["profile"])  # Of one moment the newest counts.
            kept = sorted({each.when: each for each in store.kept_profiles("profile", limit=9)}.items())
            assert len(kept) == 2
            nulls, values = site.json("feature/profile/age")["trust"]["value"]["over_time"]
            assert nulls["times"] == values["times"] == [when for when, _ in kept]
            assert nulls["lines"] == {"nulls": [1 / 3, 1 / 3]}
            own = [each.feature("age") for _, each in kept]
            assert values["lines"]["median"] == [each.quantiles["0.5"] for each in own if each is not None]
            assert list(values["lines"]) == ["median", "5th percentile", "95th percentile"]
            hidden = site.html("feature/profile/mail")
            assert site.json("feature/profile/mail")["trust"]["value"]["over_time"] == [] and SECRET not in hidden
            page = site.html("feature/profile/age")
            assert page.count('<figure class="chart" data-series="{&#34;times&#34;: [') == 2 and "uplot.min.js" in page
            assert 'class="trend pale"' in page, "it is drawn without JavaScript too"
            view = site.json("view/profile")["trust"]["value"]["features"]
            assert [len(each["medians"]) for each in view] == [2, 0]

    def test_its_use_is_a_series_by_day(self, folder: Path) -> None:
        for days, count in ((0, 5), (2, 7), (29, 1), (30, 100), (-1, 100)):
            with FeatureStore(folder, clock=lambda ago=days: NOW - timedelta(days=ago)) as store:
                count_served(open_store_of(store).stores, {"counts:n_1d": count, "counts:page": 2})
        with opened(folder) as store, site_of(store) as site:
            use = site.json("feature/counts/n_1d")["use"]
            by_day = [1, *[0] * 26, 7, 0, 5]
            assert (use["requests"], use["requests_by_day"]) == (13, by_day)
            page = site.json("view/counts")
            assert page["requests_per_day"] == (13 + 3 * 2) / 30 and page["training_sets"] == 1
            series = page["use_over_time"]
            assert series["lines"] == {"requests": [by_day[at] + 2 * bool(by_day[at]) for at in range(30)]}
            assert [iso(series["times"][at])[:10] for at in (0, -1)] == ["2025-12-03", "2026-01-01"]
            assert '2025-12-30</th><td class="num">9</td>' in site.html("view/counts"), "as a table"
            assert site.json("view/archived")["use_over_time"] is None

    def test_its_freshness_is_that_of_the_log_or_of_the_last_run(self, site: SiteOf, store: FeatureStore) -> None:
        (found,) = site.json("feature/counts/n_1d")["freshness"]
        (status,) = store.stream_status()
        log = found["log"]["value"]
        assert (log["lag"], log["archived"], log["dead_letters"]) == (status.lag, status.archived + 1, 1)
        assert datetime.fromisoformat(found["served"]["value"]["newest"]) == NOW - timedelta(minutes=1)
        (found,) = site.json("feature/doubled/twice")["freshness"]
        assert (found["view"], found["log"], found["materialized"]["rows"]) == ("profile", None, 2)
        (found,) = site.json("feature/archived/age")["freshness"]
        assert (found["is_online"], found["materialized"]) == (False, None)

    @pytest.mark.parametrize(
        ("kind", "name", "path"),
        [
            ("feature", "profile:age", "feature/profile/age"),
            ("source", "rows", "source/rows"),
            ("view", "profile", "view/profile"),
        ],
    )
    def test_what_breaks_is_what_the_lineage_says(
        self, site: SiteOf, store: FeatureStore, kind: str, name: str, path: str
    ) -> None:
        graph = store.lineage()
        node = graph.node(kind, name)
        assert node is not None
        page = site.json(path)
        drawn = page["lineage"]["value"]["downstream"]
        assert {each["name"] for each in drawn} == {each.name for each in graph.downstream(node)}
        found = page["impact"]["value"]
        expected = {kind: [each.name for each in nodes] for kind, nodes in graph.impact(node).items()}
        assert {each["kind"]: [link["text"] for link in each["links"]] for each in found["downstream"]} == expected
        assert expected["training-set"] == ["first"] and expected["service"] == ["model"]
        assert found["hidden"] == 0
        assert f'aria-label="{kind} {name}"' in site.html(path)
        columns = [each for each in found["downstream" if kind == "source" else "upstream"] if each["kind"] == "column"]
        column = "rows:user_id" if kind == "view" else "rows:age"
        assert column in [link["text"] for link in columns[0]["links"]]

    def test_an_unknown_feature_has_no_page(self, site: SiteOf) -> None:
        for path in ("feature/profile/agee", "feature/profil/age"):
            with pytest.raises(NotFound) as error:
                site.json(path)
            assert "did you mean" in (error.value.hint or "")


def test_an_entity_names_its_views_and_leads_to_keys(site: SiteOf) -> None:
    page = site.json("entity/user")
    assert page["join_keys"] == ["user_id"] and page["owner"] == "crm"
    assert {each["name"] for each in page["views"]} == {"archived", "counts", "doubled", "profile"}
    assert [each["url"] for each in page["examples"]["value"]] == ["/ui/key/user?user_id=7"]
    person = site.json("entity/person")
    assert person["are_keys_hidden"] and person["examples"]["value"] == []


def test_keys_that_are_still_looked_for_are_not_said_to_be_none(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, online_keys = Event(), store.online_keys

    def slow(*given: Any) -> Any:
        goes_on.wait(60)
        return online_keys(*given)

    monkeypatch.setattr(store, "online_keys", slow)
    site = Site(store, snapshot=open_store_of(store).snapshot)
    try:
        page = site.respond("/ui/entity/user", {}, Owner()).body.decode()
        assert "No key is served yet" not in page and "The list of keys takes longer than this page waits" in page
    finally:
        goes_on.set()
        site.close()


class NoValues(LiveValues):
    """Live values none of which comes."""

    def __init__(self, found: LiveValue[Any]) -> None:
        super().__init__()
        self.found = found

    def get(self, *given: Any, **more: Any) -> Any:
        return self.found

    later = get


@pytest.mark.parametrize("found", [LiveValue(is_late=True), LiveValue(error="the store is away", hint="start `it`")])
def test_every_page_goes_on_without_its_live_values(store: FeatureStore, found: LiveValue[Any]) -> None:
    site = Site(store, snapshot=open_store_of(store).snapshot, live=NoValues(found))
    said = "the store is away" if found.error else "takes longer than this page waits"
    for path in (
        "", "view/counts", "view/profile", "on-demand-view/doubled", "feature/counts/n_1d", "feature/doubled/twice",
        "entity/user", "source/traffic", "source/rows", "service/model", "lineage/view/counts", "runs",
        "training-set/first", "key/user", "runs/apply/1",
    ):  # fmt: skip
        page = site.respond(f"/ui/{path}", {}, Owner())
        assert page.status == 200 and said in page.body.decode(), path
    found_by_name = site.respond("/ui/search", {"q": "counts"}, Owner()).body.decode()
    assert "counts:<wbr>n_" in found_by_name and "these go by names alone" in found_by_name
    site.close()


def test_a_service_has_its_features_in_order(site: SiteOf, store: FeatureStore) -> None:
    page = site.json("service/model")
    names: list[Any] = [each["name"] for view in page["views"] for each in view["features"]]
    online = store.get_online_features("model", [{"user_id": 7}]).to_dict()
    assert names == [each for each in online if each != "user_id"] == ["n_1d", "age", "twice"]
    assert page["count"] == 3 and page["note"] == ""
    assert any('{"user_id": 7}' in each["text"] for each in page["snippets"])
    with pytest.raises(NotFound, match="no feature service 'modl'"):
        site.json("service/modl")


def test_a_view_draws_each_distinct_window_once_and_says_how_fresh_it_is(site: SiteOf, store: FeatureStore) -> None:
    page = site.json("view/counts")
    assert [each["features"] for each in page["windows"]] == [["n_1d"], ["page"], ["last_secret"]]
    assert [each["features"] for each in site.json("view/profile")["windows"]] == [["age", "mail"]]
    report = store.audit(["counts"])
    (found,) = site.json("view/counts")["freshness"]
    assert (found["audit"]["differences"], found["audit"]["keys"]) == (0, report.keys)
    assert "0 differences" in site.html("view/counts") and "0 differences" in site.html("feature/counts/n_1d")
    assert "<svg" in site.html("on-demand-view/doubled")


class TestLineage:
    def test_it_draws_and_lists_what_is_near(self, site: SiteOf, store: FeatureStore) -> None:
        graph = store.lineage()
        node = graph.node("feature", "profile:age")
        assert node is not None
        page = site.json("lineage/feature/profile:age")
        found = page["lineage"]["value"]
        assert {each["name"] for each in found["downstream"]} == {each.name for each in graph.downstream(node)}
        assert {each["name"] for each in found["upstream"]} == {each.name for each in graph.upstream(node)}
        html = site.html("lineage/feature/profile:age")
        assert "<svg" in html and html.count('class="item') == len(found["found"]["items"])
        assert found["mermaid"].startswith("flowchart LR")
        # Every drawn item leads to its own lineage.
        for url in found["urls"].values():
            assert site.at(url)["lineage"]["value"]["urls"]

    def test_a_group_is_expanded_as_often_as_it_is_clicked(self, tmp_path: Path) -> None:
        (tmp_path / "feature_store.yaml").write_text("project: shop\n")
        (tmp_path / "features.py").write_text(
            f"{DEFINITIONS}\nwide = FeatureView('wide', entities=[user], source=traffic, aggregations=["
            "Aggregation('', 'count', name=f'f{n}', window=Sliding('1d')) for n in range(150)])"
        )
        for name in ("profile", "people"):
            columns = {"user_id": [1], "age": [1], "mail": ["m"], "email": ["e"], "at": pa.array([NOW])}
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        with FeatureStore(tmp_path, clock=lambda: NOW) as store:
            store.apply()
            with site_of(store) as site:
                path, shown = "/ui/lineage/view/wide", []
                while path:
                    found = site.at(path)["lineage"]["value"]
                    shown.append(sum(each.startswith("feature/wide") for each in found["urls"]))
                    path = next((url for id, url in found["urls"].items() if id.startswith("down1-feature")), "")
        assert len(shown) == 3 and shown[0] < 60 and shown == sorted(shown) and shown[-1] == 150

    def test_more_steps_show_more(self, site: SiteOf) -> None:
        near, far = (
            set(site.json("lineage/feature/profile:age", steps=steps)["lineage"]["value"]["urls"])
            for steps in ("1", "3")
        )
        assert near < far and "service/model" in far

    def test_what_does_not_exist_has_no_page(self, site: SiteOf) -> None:
        for path in ("lineage/feature/profile:agee", "lineage/thing/profile"):
            with pytest.raises(NotFound):
                site.json(path)
