"""Search over the catalog: by words, by beginnings, and through typos."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asof.catalog.entries import CatalogEntry, entries_of
from asof.catalog.index import CatalogIndex
from asof.catalog.search import CatalogSearch, filter_of
from asof.catalog.trigrams import TrigramTable, edit_distance
from asof.catalog.viewer import Owner
from asof.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    RequestSource,
    Session,
    Sliding,
    Snapshot,
    project_of,
)
from asof.definitions.on_demand import OnDemandFeatureView
from asof.types import Float64, Int64, String, Timestamp
from tests.cli_shell import FakeStore, Shell

USER = Entity(name="user", join_keys=["user_id"], description="Somebody with an account")
TRAFFIC = LogSource(
    name="traffic", schema=[Field("user_id", Int64), Field("page", String), Field("at", Timestamp)],
    timestamp_field="at", owner="web",
)  # fmt: skip
CRM = FileSource(
    name="crm", path="crm.parquet", timestamp_field="at", field_mapping={"mail": "email"}, tags={"pii": ""}
)
BROWSING = FeatureView(
    name="user_traffic", entities=[USER], source=TRAFFIC, description="What a user looks at", owner="growth",
    aggregations=[
        Aggregation(function="count", window=Session(timedelta(hours=1)), where="page = 'listing_page'", name="listing_views"),
        Aggregation(function="count", window=Sliding(timedelta(days=1)), name="views_1d"),
        Aggregation(function="last", column="page", name="lastPage"),
    ],
)  # fmt: skip
PROFILE = FeatureView(
    name="user_profile", entities=[USER], source=CRM, tags={"team": "crm"},
    schema=[Field("user_id", Int64), Field("email", String, description="The address for invoices", tags={"pii": "yes"}),
            Field("age", Int64)],
)  # fmt: skip
BASKET = RequestSource("basket", [Field("amount", Float64)])
RATIO = OnDemandFeatureView(
    "amount_ratio", schema=[Field("per_view", Float64)], sources=[BROWSING[["views_1d"]], BASKET], mode="python",
    udf=lambda row: {"per_view": row["amount"] / row["views_1d"]}, owner="risk",
)  # fmt: skip
MODEL = FeatureService("order_model", [BROWSING[["views_1d"]], PROFILE, RATIO], description="Scores orders")
PROJECT = project_of([MODEL])


@pytest.fixture
def search() -> Iterator[CatalogSearch]:
    index = CatalogSearch(entries_of(PROJECT))
    yield index
    index.close()


def names(found: list[CatalogEntry]) -> list[str]:
    return [each.name for each in found]


class TestEntries:
    def test_all_that_is_applied_is_an_entry_once(self) -> None:
        found = [(each.kind, each.name) for each in entries_of(PROJECT)]

        assert sorted(found) == sorted([
            ("entity", "user"), ("source", "basket"), ("source", "crm"), ("source", "traffic"),
            ("view", "user_profile"), ("view", "user_traffic"), ("on-demand-view", "amount_ratio"),
            ("service", "order_model"), ("feature", "amount_ratio:per_view"), ("feature", "user_profile:age"),
            ("feature", "user_profile:email"), ("feature", "user_traffic:lastPage"),
            ("feature", "user_traffic:listing_views"), ("feature", "user_traffic:views_1d"),
        ])  # fmt: skip

    def test_a_feature_says_what_it_is_made_of(self) -> None:
        known = {each.name: each for each in entries_of(PROJECT)}

        assert known["user_traffic:listing_views"].columns == ("page",)
        assert known["user_traffic:listing_views"].expressions == (
            "count(*) where page = 'listing_page', session gap 1h",
        )
        assert known["user_profile:email"].columns == ("mail",), "the source's own name of a mapped column"
        assert known["user_profile:email"].tags == (("pii", "yes"), ("team", "crm"))
        assert known["amount_ratio:per_view"].entities == ("user",)
        assert known["amount_ratio:per_view"].sources == ("user_traffic", "basket")
        assert known["order_model"].expressions == (
            "user_traffic:views_1d", "user_profile:email", "user_profile:age", "amount_ratio:per_view",
        )  # fmt: skip


class TestSearch:
    def test_a_name_comes_first_then_what_begins_with_it(self, search: CatalogSearch) -> None:
        assert names(search.find("user"))[:3] == ["user", "user_profile", "user_traffic"]
        assert names(search.find("USER_PROFILE"))[0] == "user_profile"

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("lastPage", "user_traffic:lastPage"), ("last page", "user_traffic:lastPage"),
            ("views_1d", "user_traffic:views_1d"), ("invoices", "user_profile:email"),
            ("adress invoice", "user_profile:email"), ("listing_page", "user_traffic:listing_views"),
            ("growth", "user_traffic"), ("scores", "order_model"), ("mail", "user_profile:email"), ("web", "traffic"),
        ],
    )  # fmt: skip
    def test_each_text_of_a_thing_finds_it(self, search: CatalogSearch, text: str, name: str) -> None:
        assert name in names(search.find(text))[:4]

    def test_all_words_must_be_there_in_any_order(self, search: CatalogSearch) -> None:
        assert names(search.find("list traf"))[0] == names(search.find("traf list"))[0] == "user_traffic:listing_views"
        assert names(search.find("invoices growth")) == []

    @pytest.mark.parametrize("text", ["user_trafic:views_1d", "user_traffic:veiws_1d", "sr_traffic:views_1d"])
    def test_a_typo_in_a_reference_still_finds_it(self, search: CatalogSearch, text: str) -> None:
        assert names(search.find(text))[0] == "user_traffic:views_1d"

    @pytest.mark.parametrize(
        "text",
        ['"', "'", "*", "a OR", "NEAR(", "user AND", "^", "-user", "name:user", "\0", "é", "�" * 500, "x " * 900],
    )
    def test_no_text_is_a_mistake(self, search: CatalogSearch, text: str) -> None:
        assert isinstance(search.find(text), list)

    def test_an_empty_text_finds_all_that_the_filter_leaves(self, search: CatalogSearch) -> None:
        assert len(search.find(" ", limit=99)) == len(search) == 14
        assert names(search.find(keeps=filter_of(tag="pii"))) == ["user_profile:email", "crm"]
        assert names(search.find(keeps=filter_of(tag="pii=yes"))) == ["user_profile:email"]
        assert names(search.find(keeps=filter_of(owner="risk", kind="feature"))) == ["amount_ratio:per_view"]
        assert names(search.find("page", keeps=filter_of(source="crm"))) == []
        assert "user_traffic:views_1d" in names(search.find(keeps=filter_of(entity="user", source="traffic")))
        assert filter_of() is None
        with pytest.raises(ValueError, match="no kind 'table': expected one of feature"):
            filter_of(kind="table")

    def test_of_matches_that_are_alike_the_rank_decides_and_never_before_the_text(self, search: CatalogSearch) -> None:
        before = names(search.find("user_", limit=99))
        ranks = {"user_traffic:views_1d": -9, "user_profile": -5, "user_traffic:lastPage": -1}
        search.rank_by(lambda entry: ranks.get(entry.name, 0))

        assert names(search.find("user"))[0] == "user", "the name itself comes first"
        found = names(search.find("user_", limit=99))
        assert found[:3] == ["user_traffic:views_1d", "user_profile", "user_traffic:lastPage"]
        assert set(found) == set(before)
        assert names(search.find("invoices"))[0] == "user_profile:email"
        assert names(search.find(keeps=filter_of(kind="feature")))[:2] == [
            "user_traffic:views_1d",
            "user_traffic:lastPage",
        ]

    def test_terms_that_match_alike_are_ordered_by_rank_and_better_matches_stay_before(self) -> None:
        alike = [CatalogEntry("feature", f"v{n}:x", description="spend of a shop") for n in range(30)]
        best = CatalogEntry("feature", "w:spend_of_shop")
        search = CatalogSearch([*alike, best])
        search.rank_by(lambda entry: -1 if entry.name == "v20:x" else 0)

        assert names(search.find("spend shop"))[:3] == ["w:spend_of_shop", "v20:x", "v0:x"]

    def test_results_repeat_nothing_and_end_at_the_limit(self, search: CatalogSearch) -> None:
        for text in ("user", "user_traffic", "views", "e"):
            found = names(search.find(text, limit=99))
            assert len(found) == len(set(found))
            assert names(search.find(text, limit=2)) == found[:2]

    def test_nothing_is_found_in_nothing(self) -> None:
        assert CatalogSearch([]).find("user") == CatalogSearch([]).find() == []


class TestTypos:
    """Of 500 references with one typo, 95 in 100 are among the first five results."""

    WORDS = (
        "user order session listing product photo page view click cart price total discount refund device country "
        "brand search rating review payment card fraud score login email coupon courier trip driver wallet"
    ).split()

    @cache  # noqa: B019  # one instance
    def references(self) -> list[str]:
        dice = random.Random(7)
        views = {"_".join(dice.sample(self.WORDS, 2)) for _ in range(300)}
        ends = ["count_1h", "count_1d", "sum_7d", "mean_30d", "last"]
        return [f"{view}:{dice.choice(self.WORDS)}_{end}" for view in sorted(views) for end in ends]

    def test_of_500_references_with_a_typo_95_in_100_are_among_the_first_five(self) -> None:
        dice = random.Random(11)
        references = self.references()
        search = CatalogSearch([CatalogEntry("feature", name) for name in references])
        asked = [(name, with_typo(name, dice)) for name in dice.sample(references, 500)]

        missed = [(name, typed) for name, typed in asked if name not in names(search.find(typed, limit=5))]

        assert len(missed) <= 25, missed


def with_typo(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) - 1)
    dead_letter = dice.choice("abcdefghijklmnopqrstuvwxyz0123456789_")
    return dice.choice(
        [text[:at] + text[at + 1 :], text[:at] + dead_letter + text[at:], text[:at] + dead_letter + text[at + 1 :],
         text[:at] + text[at + 1] + text[at] + text[at + 2 :]]
    )  # fmt: skip


def full_distance(one: str, other: str) -> int:
    """The whole table, by the book."""
    table = [[max(row, column) if not row or not column else 0 for column in range(len(other) + 1)]
             for row in range(len(one) + 1)]  # fmt: skip
    for row in range(1, len(one) + 1):
        for column in range(1, len(other) + 1):
            table[row][column] = min(
                table[row - 1][column] + 1, table[row][column - 1] + 1,
                table[row - 1][column - 1] + (one[row - 1] != other[column - 1]),
            )  # fmt: skip
            if row > 1 and column > 1 and one[row - 1] == other[column - 2] and one[row - 2] == other[column - 1]:
                table[row][column] = min(table[row][column], table[row - 2][column - 2] + 1)
    return table[-1][-1]


SHORT = st.text("abc:", max_size=8)


@given(SHORT, SHORT, st.integers(0, 4))
def test_the_edit_distance_is_that_of_the_whole_table(one: str, other: str, most: int) -> None:
    assert edit_distance(one, other, most=most) == min(full_distance(one, other), most + 1)


@given(st.lists(st.text("abcß🙂", min_size=1, max_size=6), max_size=20), st.text("abcß🙂", min_size=1, max_size=6))
def test_texts_that_share_a_trigram_are_found_by_their_distance(texts: list[str], text: str) -> None:
    def trigrams(of: str) -> set[str]:
        return {f"\0{of}\0"[at : at + 3] for at in range(len(of))}

    expected = sorted(
        (full_distance(text, each), place)
        for place, each in enumerate(texts)
        if trigrams(text) & trigrams(each) and full_distance(text, each) <= 2
    )
    assert TrigramTable(texts).near(text, distance=2) == expected


class TestCommand:
    @pytest.fixture
    def shell(self) -> Shell:
        store = FakeStore()
        store.apply_project(PROJECT)
        return Shell(store)

    def test_matches_are_a_table_with_the_best_first(self, shell: Shell) -> None:
        found = shell("search", "listing", "views", width=120)

        assert found.exit_code == 0 and found.stderr == ""
        assert [line.split()[:2] for line in found.stdout.splitlines()[2:]] == [
            ["feature", "user_traffic:listing_views"], ["view", "user_traffic"],
        ]  # fmt: skip

    def test_a_document_has_all_that_is_known_of_a_match(self, shell: Shell) -> None:
        found = json.loads(shell("search", "invoices", "--output", "json").stdout)

        assert found == {
            "matches": [
                {"kind": "feature", "name": "user_profile:email", "type": "String", "description": "The address for invoices",
                 "expression": None, "requests": None, "owner": None, "tags": {"pii": "yes", "team": "crm"}, "defined_at": PROFILE.where}
            ]
        }  # fmt: skip

    def test_options_filter_and_limit(self, shell: Shell) -> None:
        only = json.loads(shell("search", "--tag", "pii", "--kind", "source", "--output", "json").stdout)
        two = json.loads(shell("search", "-n", "2", "--output", "json").stdout)

        assert [each["name"] for each in only["matches"]] == ["crm"] and len(two["matches"]) == 2
        assert "'table' is not one of 'feature'" in shell("search", "--kind", "table").stderr

    def test_nothing_found_and_nothing_applied_are_told_apart(self, shell: Shell) -> None:
        assert shell("search", "zzz").stdout == "Nothing matches.\n"
        shell.store.apply_project(project_of([]))
        assert shell("search", "zzz").stdout == "Nothing is applied yet: run `asof apply`.\n"


class TestNames:
    """What a search goes by until the index of all texts is made."""

    def test_names_with_the_text_are_found_those_that_begin_so_first(self) -> None:
        index = CatalogIndex(Snapshot(1, "shop", project_of([BROWSING, PROFILE, RATIO])))

        found = names(index.find_by_name("VIEW", limit=9, viewer=Owner()))
        assert found == ["user_traffic:views_1d", "amount_ratio:per_view", "user_traffic:listing_views"]
        assert names(index.find_by_name("user_", limit=2, viewer=Owner(), kind="view")) == [
            "user_profile",
            "user_traffic",
        ]
        assert names(index.find_by_name("invoices", limit=9, viewer=Owner())) == [], "a description is not a name"
        assert index.counts(Owner()) == {
            "feature": 6, "view": 2, "on-demand-view": 1, "entity": 1, "source": 3,
        }  # fmt: skip
