"""The simulated shop follows its state machine, and says the same thing every time."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from asof.demo.shop import PAGES, STATES, TRANSITIONS, Shop, more_events, simulate, write_sources

MINUTE_MS = 60_000


@cache
def default_shop() -> Shop:
    return simulate()


def visits_by_user(shop: Shop) -> dict[int, list[tuple[str, int]]]:
    """User → its (page, tick) in order of time."""
    visits: dict[int, list[tuple[str, int]]] = {}
    for user, page, ms in zip(*(shop.traffic[name].to_pylist() for name in shop.traffic.column_names), strict=True):
        visits.setdefault(user, []).append((page, (ms - shop.starts_at // 1000) // MINUTE_MS))
    return visits


def steps(shop: Shop) -> dict[str, list[tuple[str, int]]]:
    """State → (next state, ticks until it) for every transition that the traffic shows.

    `order_page` is always left after one tick, so a longer gap before the next listing was spent offline; a listing
    after a listing was offline in between.
    """
    found: dict[str, list[tuple[str, int]]] = {page: [] for page in PAGES}
    for user, visits in visits_by_user(shop).items():
        for (page, tick), (next_page, next_tick) in pairwise(visits):
            gap = next_tick - tick
            offline = page == "listing_page" == next_page or (page == "order_page" and gap > 1)
            found[page].append(("offline" if offline else next_page, gap))
        if STATES[shop.states[user - 1]] == "offline":
            found[visits[-1][0]].append(("offline", 0))
    return found


def tick_by_tick(users: int, ticks: int, seed: int) -> np.ndarray:
    """Visits per user and page, by throwing one die per user and tick: shape (users, states)."""
    rng = np.random.default_rng(seed)
    stay_or_go = np.eye(len(STATES))
    for state, nexts in TRANSITIONS.items():
        row = stay_or_go[STATES.index(state)]
        row[STATES.index(state)] -= sum(nexts.values())
        for target, chance in nexts.items():
            row[STATES.index(target)] += chance
    bounds = stay_or_go.cumsum(axis=1)
    states, visits = np.zeros(users, np.int64), np.zeros((users, len(STATES)), np.int64)
    for _ in range(ticks):
        moved = np.minimum((rng.random(users)[:, None] >= bounds[states]).sum(axis=1), len(STATES) - 1)
        changed = np.flatnonzero(moved != states)
        visits[changed, moved[changed]] += 1
        states = moved
    return visits


def test_the_table_of_transitions_is_the_shop_of_the_issue() -> None:
    assert TRANSITIONS == {
        "register": {"offline": 1.0},
        "offline": {"listing_page": 0.0001},
        "listing_page": {"offline": 0.01, "product_page": 0.09},
        "product_page": {"listing_page": 0.02, "photo_page": 0.06, "order_page": 0.02},
        "photo_page": {"product_page": 0.05, "order_page": 0.05},
        "order_page": {"listing_page": 0.5, "offline": 0.5},
    }


def test_the_default_shop_has_a_thousand_users_and_fifty_thousand_minutes() -> None:
    shop = default_shop()

    assert shop.users.num_rows == 1000
    assert (shop.starts_at, shop.ends_at) == (1_600_000_000_000_000, 1_603_000_000_000_000)
    assert [str(kind) for kind in shop.users.schema.types] == ["int64", "timestamp[us, tz=UTC]", "string", "string"]
    assert [str(kind) for kind in shop.orders.schema.types] == ["int64", "int64", "timestamp[us, tz=UTC]"]
    assert [str(kind) for kind in shop.traffic.schema.types] == ["int64", "string", "int64"]
    assert set(shop.users["country"].to_pylist()) == {"Poland", "Germany", "Czechia"}
    assert set(shop.users["platform"].to_pylist()) == {"Mobile", "PC", "TV"}


def test_every_visit_comes_from_a_state_that_may_lead_to_it() -> None:
    for visits in visits_by_user(default_shop()).values():
        assert visits[0][0] == "listing_page"
        for (page, _), (next_page, _) in pairwise(visits):
            via_offline = "offline" in TRANSITIONS[page] and next_page in TRANSITIONS["offline"]
            assert next_page in TRANSITIONS[page] or via_offline


@pytest.mark.parametrize("page", PAGES)
def test_transitions_happen_as_often_as_the_table_says(page: str) -> None:
    taken = [state for state, _ in steps(default_shop())[page]]
    leaving = sum(TRANSITIONS[page].values())

    assert set(taken) == set(TRANSITIONS[page])
    for state, chance in TRANSITIONS[page].items():
        share = chance / leaving
        sigma = (share * (1 - share) / len(taken)) ** 0.5
        assert taken.count(state) / len(taken) == pytest.approx(share, abs=4 * sigma + 1e-12)


@pytest.mark.parametrize("page", ["product_page", "photo_page"])
def test_a_page_is_left_after_a_geometric_number_of_ticks(page: str) -> None:
    gaps = np.array([gap for _, gap in steps(default_shop())[page]])
    leaving = sum(TRANSITIONS[page].values())
    sigma = (1 - leaving) ** 0.5 / leaving / len(gaps) ** 0.5

    assert gaps.min() == 1
    assert gaps.mean() == pytest.approx(1 / leaving, abs=4 * sigma)
    assert (gaps == 1).mean() == pytest.approx(leaving, abs=4 * (leaving * (1 - leaving) / len(gaps)) ** 0.5)


def test_drawing_stays_in_bulk_visits_as_much_as_ticking_does() -> None:
    users, ticks = 4000, 2000
    ticked = tick_by_tick(users, ticks, seed=1)
    shop = simulate(users=users, ticks=ticks, seed=2)
    bulk = np.zeros_like(ticked)
    pages = np.array([STATES.index(page) for page in shop.traffic["page"].to_pylist()])
    np.add.at(bulk, (shop.traffic["user_id"].to_numpy() - 1, pages), 1)

    for state in map(STATES.index, PAGES):
        sigma = ((ticked[:, state].var() + bulk[:, state].var()) / users) ** 0.5
        assert ticked[:, state].mean() > 0.1
        assert bulk[:, state].mean() == pytest.approx(ticked[:, state].mean(), abs=4 * sigma)


def test_each_order_is_one_visit_of_the_order_page_at_the_same_time() -> None:
    shop = default_shop()
    ordering = shop.traffic.filter(pc.equal(shop.traffic["page"], "order_page"))

    assert shop.orders["order_id"].to_pylist() == list(range(1, shop.orders.num_rows + 1))
    assert shop.orders["user_id"].to_pylist() == ordering["user_id"].to_pylist()
    ordered_ms = shop.orders["ordered_at"].cast(pa.int64()).to_numpy() // 1000
    assert ordered_ms.tolist() == ordering["timestamp"].to_pylist()


def test_traffic_is_sorted_and_lies_inside_the_ticks_after_registration() -> None:
    shop = default_shop()
    times = shop.traffic["timestamp"].to_numpy()
    registered = shop.users["registered_at"].cast(pa.int64()).to_numpy()

    assert (np.diff(times) >= 0).all()
    assert times[0] * 1000 >= shop.starts_at + 60_000_000 and times[-1] * 1000 < shop.ends_at
    assert shop.starts_at <= registered.min() and registered.max() < shop.starts_at + 60_000_000


def test_no_user_is_in_two_places_within_one_tick() -> None:
    for visits in visits_by_user(default_shop()).values():
        ticks = [tick for _, tick in visits]
        assert len(set(ticks)) == len(ticks)


def test_one_seed_gives_one_shop_and_another_seed_another() -> None:
    first, again, other = (simulate(users=50, ticks=20_000, seed=seed) for seed in (3, 3, 4))

    for name in ("users", "orders", "traffic"):
        assert getattr(first, name).equals(getattr(again, name))
    assert not first.traffic.equals(other.traffic)


def test_the_default_shop_is_the_same_on_every_machine() -> None:
    shop = default_shop()

    assert (shop.orders.num_rows, shop.traffic.num_rows) == (7571, 43428)
    assert shop.traffic.slice(0, 2).to_pylist() == [
        {"user_id": 86, "page": "listing_page", "timestamp": 1600001639419},
        {"user_id": 21, "page": "listing_page", "timestamp": 1600001698179},
    ]


def test_one_tick_registers_everybody_and_nothing_else() -> None:
    shop = simulate(users=3, ticks=1)

    assert (shop.users.num_rows, shop.traffic.num_rows, shop.orders.num_rows) == (3, 0, 0)


def test_a_shop_without_users_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user and one tick, got users=0"):
        simulate(users=0)


def test_more_events_go_on_after_the_last_tick_by_allowed_transitions() -> None:
    shop = default_shop()
    awake = [index + 1 for index, state in enumerate(shop.states) if STATES[state] != "offline"]
    later = more_events(shop, users=[5, 9, *awake])
    before, after = visits_by_user(shop), visits_by_user(later)

    assert set(after) == {5, 9, *awake} and later.orders.num_rows == 0
    times = later.traffic["timestamp"].to_numpy() * 1000
    assert times.min() >= shop.ends_at and times.max() < later.ends_at == shop.ends_at + 5 * 60_000_000
    for user, visits in after.items():
        assert {page for page, _ in visits} == set(PAGES) - {"order_page"}
        walk = [before[user][-1], *visits]
        for (page, _), (next_page, _) in pairwise(walk):
            assert next_page in TRANSITIONS[page] or ("offline" in TRANSITIONS[page] and next_page == "listing_page")


def test_more_events_can_be_asked_for_again() -> None:
    once = more_events(default_shop(), users=[5], minutes=2)
    twice = more_events(once, users=[5], minutes=2)

    assert STATES[once.states[4]] == "product_page"
    assert twice.starts_at == once.ends_at and twice.traffic.num_rows == 2


def test_more_events_for_a_stranger_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no such users in the shop: \[0, 1001\]; it has 1 to 1000"):
        more_events(default_shop(), users=[0, 7, 1001])


def test_the_sources_are_written_as_three_parquet_files(tmp_path) -> None:
    shop = simulate(users=5, ticks=20_000)
    paths = write_sources(shop, tmp_path / "source")

    assert {name: path.name for name, path in paths.items()} == {
        "users": "users.parquet", "orders": "orders.parquet", "traffic": "traffic.parquet"
    }  # fmt: skip
    for name, path in paths.items():
        assert pq.read_table(path).equals(getattr(shop, name))
