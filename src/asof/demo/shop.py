"""The simulated shop of the demo: users who browse, open photos and order, one minute per tick.

Every user walks the state machine in `TRANSITIONS`, tick by tick. Three readings of it are settled here:

- All users start in `register` and leave it at tick 0, so they register in the first minute.
- A transition at tick i happens at a random millisecond of the minute `[start + i min, start + (i + 1) min)`. So a
  user's events are never simultaneous, and the shop's last moment is the end of its last tick, `start + ticks min`.
- `offline` is not a page: going there emits no event, and the next event of the user is a `listing_page`.

Nothing ticks: how long a state lasts is drawn at once (a geometric number of ticks), for all users together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asof.defaults import DEMO_SEED, DEMO_TICKS, DEMO_USERS
from asof.timing import MINUTE, Micros, micros

TRANSITIONS: dict[str, dict[str, float]] = {
    "register": {"offline": 1.0},
    "offline": {"listing_page": 0.0001},
    "listing_page": {"offline": 0.01, "product_page": 0.09},
    "product_page": {"listing_page": 0.02, "photo_page": 0.06, "order_page": 0.02},
    "photo_page": {"product_page": 0.05, "order_page": 0.05},
    "order_page": {"listing_page": 0.5, "offline": 0.5},
}
"""State → next state → its probability per one-minute tick; with the rest of the probability the user stays."""

STATES: tuple[str, ...] = tuple(TRANSITIONS)
PAGES: tuple[str, ...] = tuple(state for state in STATES if state.endswith("_page"))
"""The states that emit a traffic event when a user enters them."""

COUNTRIES = ("Poland", "Germany", "Czechia")
PLATFORMS = ("Mobile", "PC", "TV")
START = datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)

USERS_SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()),
        ("registered_at", pa.timestamp("us", tz="UTC")),
        ("country", pa.string()),
        ("platform", pa.string()),
    ]
)
ORDERS_SCHEMA = pa.schema(
    [("order_id", pa.int64()), ("user_id", pa.int64()), ("ordered_at", pa.timestamp("us", tz="UTC"))]
)
TRAFFIC_SCHEMA = pa.schema([("user_id", pa.int64()), ("page", pa.string()), ("timestamp", pa.int64())])

_TICK_MS = MINUTE // 1000
_INDEX = {state: index for index, state in enumerate(STATES)}
_OFFLINE, _ORDER = _INDEX["offline"], _INDEX["order_page"]
_VISIT = ("listing_page", "product_page", "photo_page")


@dataclass(frozen=True)
class Shop:
    """What the shop wrote down between two moments, and where each user then stands.

    Attributes:
        users: who registered: user_id (1 …), registered_at, country, platform; by user_id.
        orders: order_id (1 …, in order of time), user_id, ordered_at: the time of the order's `order_page` event.
        traffic: user_id, page, timestamp in milliseconds; by time, then user.
        starts_at: the first moment, microseconds.
        ends_at: the end of the last tick, microseconds; everything above happened before it.
        states: for user_id 1 … n, the index into `STATES` at `ends_at`.
    """

    users: pa.Table
    orders: pa.Table
    traffic: pa.Table
    starts_at: Micros
    ends_at: Micros
    states: np.ndarray


def simulate(
    *, users: int = DEMO_USERS, ticks: int = DEMO_TICKS, seed: int = DEMO_SEED, start: datetime | Micros = START
) -> Shop:
    """Let `users` users live in the shop for `ticks` minutes from `start`.

    Equal arguments give equal tables on every machine (of one numpy): only PCG64's uniform draws, comparisons,
    additions and multiplications are used, no function whose last bit differs between C libraries.

    Raises:
        ValueError: fewer than one user or tick, or a `start` that is not a whole millisecond.
    """
    starts_at = micros(start)
    if users < 1 or ticks < 1:
        raise ValueError(f"the shop needs at least one user and one tick, got users={users}, ticks={ticks}")
    if starts_at % 1000:
        raise ValueError(f"the shop starts at a whole millisecond, got {starts_at} microseconds")
    rng = np.random.Generator(np.random.PCG64(seed))
    start_ms = starts_at // 1000
    countries = rng.integers(len(COUNTRIES), size=users)
    platforms = rng.integers(len(PLATFORMS), size=users)
    registered_ms = start_ms + rng.integers(_TICK_MS, size=users)

    who, entered, when_ms, states = _walk(rng, users=users, ticks=ticks)
    when_ms += start_ms
    order = np.lexsort((who, when_ms))
    who, entered, when_ms = who[order] + 1, entered[order], when_ms[order]
    ordered = entered == _ORDER
    return Shop(
        users=pa.table(
            [
                np.arange(1, users + 1),
                pa.array(registered_ms * 1000, USERS_SCHEMA.field("registered_at").type),
                pa.array(COUNTRIES).take(pa.array(countries)),
                pa.array(PLATFORMS).take(pa.array(platforms)),
            ],
            schema=USERS_SCHEMA,
        ),
        orders=pa.table(
            [
                np.arange(1, ordered.sum() + 1),
                who[ordered],
                pa.array(when_ms[ordered] * 1000, ORDERS_SCHEMA.field("ordered_at").type),
            ],
            schema=ORDERS_SCHEMA,
        ),
        traffic=_traffic(who, entered, when_ms),
        starts_at=starts_at,
        ends_at=starts_at + ticks * MINUTE,
        states=states,
    )


def more_events(shop: Shop, *, users: Sequence[int], minutes: int = 5, seed: int = DEMO_SEED) -> Shop:
    """Go on after `shop.ends_at`: each of `users` visits listing, product and photo pages, one step a minute.

    The steps are ones that `TRANSITIONS` allows from where the user stands, and no user orders. Five minutes are
    enough for each user to see all three pages.

    Returns:
        The shop of those minutes: only their traffic, no new users or orders, the moved states. It can be given
        to `more_events` again.

    Raises:
        ValueError: a user who is not in the shop.
    """
    strangers = [user for user in users if not 1 <= user <= len(shop.states)]
    if strangers:
        raise ValueError(f"no such users in the shop: {strangers}; it has 1 to {len(shop.states)}")
    rng = np.random.Generator(np.random.PCG64(seed))
    states = shop.states.copy()
    who, entered, when_ms = [], [], []
    for user in sorted(set(users)):
        path = _visit_from(STATES[states[user - 1]], steps=minutes)
        jitter = rng.integers(_TICK_MS, size=minutes)
        for minute, state in enumerate(path):
            if state in PAGES:
                who.append(user)
                entered.append(_INDEX[state])
                when_ms.append(shop.ends_at // 1000 + minute * _TICK_MS + int(jitter[minute]))
        states[user - 1] = _INDEX[path[-1]] if path else states[user - 1]
    order = np.lexsort((who, when_ms))
    return Shop(
        users=shop.users.slice(0, 0),
        orders=shop.orders.slice(0, 0),
        traffic=_traffic(
            np.array(who, np.int64)[order], np.array(entered, np.int64)[order], np.array(when_ms, np.int64)[order]
        ),
        starts_at=shop.ends_at,
        ends_at=shop.ends_at + minutes * MINUTE,
        states=states,
    )


def write_sources(shop: Shop, folder: Path | str) -> dict[str, Path]:
    """Write `users.parquet`, `orders.parquet` and `traffic.parquet` into `folder`; returns name → path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, table in (("users", shop.users), ("orders", shop.orders), ("traffic", shop.traffic)):
        paths[name] = folder / f"{name}.parquet"
        pq.write_table(table, paths[name])
    return paths


def _walk(rng: np.random.Generator, *, users: int, ticks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All page visits as (user index, state index, milliseconds since the start), and each user's last state.

    Each round of the loop is one transition of every user who still has ticks left.
    """
    stays = [_stay_table(sum(nexts.values()), ticks) for nexts in TRANSITIONS.values()]
    states = np.full(users, _OFFLINE, np.int64)
    active = np.arange(users)
    tick = np.zeros(users, np.int64)
    rounds: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while len(active):
        stay, choice, jitter = (
            rng.random(len(active)),
            rng.random(len(active)),
            rng.integers(_TICK_MS, size=len(active)),
        )
        here = states[active]
        there = np.empty_like(here)
        for index in np.unique(here):
            at = here == index
            # `stays[k]` is the chance of having left after k + 1 ticks, so its position inverts the distribution.
            tick[at] += np.searchsorted(stays[index], stay[at], side="right") + 1
            nexts = TRANSITIONS[STATES[index]]
            bounds = np.cumsum(list(nexts.values()))
            picked = np.searchsorted(bounds[:-1], choice[at] * bounds[-1], side="right")
            there[at] = np.array([_INDEX[state] for state in nexts])[picked]
        in_time = tick < ticks
        active, tick, there = active[in_time], tick[in_time], there[in_time]
        states[active] = there
        visits = there != _OFFLINE
        rounds.append((active[visits], there[visits], (tick * _TICK_MS + jitter[in_time])[visits]))
    who, entered, when_ms = (np.concatenate(column) for column in zip(*rounds, strict=True))
    return who, entered, when_ms, states


def _stay_table(leaving: float, ticks: int) -> np.ndarray:
    """The chance of having left a state after 1, 2, … ticks, up to `ticks` or until it is 1 to the last bit."""
    length = min(ticks, int(40 / leaving) + 1)
    return 1.0 - np.cumprod(np.full(length, 1.0 - leaving))


def _visit_from(state: str, *, steps: int) -> list[str]:
    """The next `steps` states of a user who goes round listing, product and photo pages by allowed transitions."""
    path: list[str] = []
    while len(path) < steps:
        for page in _VISIT:
            path += _shortest_path(path[-1] if path else state, page)
    return path[:steps]


def _shortest_path(origin: str, target: str) -> list[str]:
    """The states after `origin` up to `target` in the fewest steps (at least one), without an order."""
    paths: deque[list[str]] = deque([[]])
    while not paths[0] or paths[0][-1] != target:
        path = paths.popleft()
        here = path[-1] if path else origin
        paths.extend([*path, state] for state in TRANSITIONS[here] if state != "order_page")
    return paths[0]


def _traffic(who: np.ndarray, entered: np.ndarray, when_ms: np.ndarray) -> pa.Table:
    return pa.table([who, pa.array(STATES).take(pa.array(entered)), when_ms], schema=TRAFFIC_SCHEMA)
