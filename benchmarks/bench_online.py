"""How fast `get_online_features` reads SQLite, beside reading and unpacking the same bytes by hand."""

from __future__ import annotations

import argparse
import random
import sqlite3
import struct
import tempfile
import textwrap
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, Session, Sliding
from asof.flows.stores import current_generation, table_of
from asof.store import open_store_of
from asof.timing import DAY, micros, moment
from asof.types import Bool, Float64, Int64, String
from asof.values.packing import key_bytes
from benchmarks.harness import Program, compare, judge

LATEST_LIMIT, WINDOWS_LIMIT = 2.0, 4.0
"""Times a raw read and unpack of the same packed bytes."""

ROWS = (1, 10, 100, 1000)
REQUESTS = 40
"""How many different requests are cycled through."""
VIEWS = 3
NOW = micros("2026-01-01T00:00:00+00:00")
SCHEMA = [
    Field("user_id", Int64), *(Field(f"f{i}", Float64) for i in range(6)), *(Field(f"i{i}", Int64) for i in range(2)),
    Field("b", Bool), Field("s", String),
]  # fmt: skip
FEATURES = [field.name for field in SCHEMA[1:]]
WINDOWS = [
    Aggregation("", "count", window=Sliding("1h"), name="n_1h"),
    Aggregation("x", "sum", window=Sliding("1d"), name="x_1d"),
    Aggregation("x", "max", window=Sliding("7d"), name="x_7d"),
    Aggregation("", "count", window=Session("1h"), name="n_session"),
    Aggregation("x", "mean", name="x_ever"),
]  # fmt: skip


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_online")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--users", type=int, help="keys of each view")
    parser.add_argument("--feast", metavar="VENV_PYTHON", help="a Python with Feast, which reads the same rows")
    options, _ = parser.parse_known_args(argv)
    users = options.users or (2_000 if options.quick else 20_000)
    kept = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = filled_store(folder, users=users)
        for kind, limit in (("latest", LATEST_LIMIT), ("windows", WINDOWS_LIMIT)):
            for rows in ROWS:
                kept.append(measure(store, kind, rows=rows, users=users, limit=limit, folder=folder, options=options))
        store.close()
    return all(kept)


def measure(
    store: FeatureStore,
    kind: str,
    *,
    rows: int,
    users: int,
    limit: float,
    folder: Path,
    options: argparse.Namespace,
) -> bool:
    """One kind of view for one number of entity rows: by hand, by Asof, and by Feast where it is asked for."""
    rng = random.Random(rows)
    # Each call is about other keys, as requests are: of the same ones all memory would be in the processor's cache.
    requests = [rng.sample(range(users), rows) for _ in range(REQUESTS)]
    views = [f"{kind}{i}" for i in range(VIEWS)]
    names = FEATURES if kind == "latest" else [each.name for each in WINDOWS]
    raw = raw_reader(store, views, unpack=UNPACK[kind])
    packed = cycle([[key_bytes((user,)) for user in chosen] for chosen in requests])
    entity_rows = cycle([[{"user_id": user} for user in chosen] for chosen in requests])
    references = [f"{view}:{name}" for view in views for name in names]

    def asof() -> int:
        answer = store.get_online_features(references, next(entity_rows), full_feature_names=True).to_dict()
        return len(answer) - 1

    def by_hand() -> int:
        return len(names) * len(raw(next(packed)))

    candidates: dict[str, Any] = {"by hand": by_hand, "asof": asof}
    calls = max(REQUESTS // 4, (200 if options.quick else 3_000) // rows)
    if options.feast and kind == "latest":
        program = Program((options.feast, str(feast_program(folder)), str(rows), str(max(3, calls // 20))))
        candidates["feast"] = program
    size = sum(len(value) for values in raw(next(packed), unpack=list) for value in values) / (rows * VIEWS)
    figures = compare(
        f"online/{kind}-{rows}", candidates, fresh=False, calls=calls, runs=3 if options.quick else 7, items=rows,
        note=f"{VIEWS} views × {len(names)} features of {rows} of {users:,} keys, other ones in each call; "
        f"{size:,.0f} packed bytes per row",
    )  # fmt: skip
    ratio = figures["asof"].wall_ratio
    assert ratio is not None
    return judge(f"{kind}, {rows} rows: asof / by hand, wall", ratio, limit, unit="×")


def filled_store(folder: Path, *, users: int, settings: str = "") -> FeatureStore:
    """A store with three views of plain fields and three of windows, all materialized.

    Args:
        settings: what `feature_store.yaml` says beside the project.
    """
    (folder / "feature_store.yaml").write_text(f"project: bench\n{settings}")
    rng = np.random.default_rng(1)
    at = pa.timestamp("us", "UTC")
    for i in range(VIEWS):
        columns: dict[str, Any] = {"user_id": np.arange(users)}
        columns |= {f"f{j}": rng.random(users) for j in range(6)}
        columns |= {f"i{j}": rng.integers(0, 10**9, users) for j in range(2)}
        columns |= {"b": rng.random(users) < 0.5, "s": [f"text {n}" for n in rng.integers(0, 10**6, users).tolist()]}
        columns["at"] = pa.array(NOW - rng.integers(0, DAY, users), at)
        pq.write_table(pa.table(columns), folder / f"latest{i}.parquet")
        each = 45
        # Bursts within the last days: some tens of tiles and sessions per key.
        times = NOW - (rng.random(users * each) ** 2 * 7 * DAY).astype(np.int64)
        events = {
            "user_id": np.repeat(np.arange(users), each),
            "x": rng.random(users * each),
            "at": pa.array(times, at),
        }
        pq.write_table(pa.table(events), folder / f"windows{i}.parquet")
    store = FeatureStore(folder, clock=lambda: moment(NOW))
    user = Entity("user", join_keys=["user_id"])
    views = []
    for i in range(VIEWS):
        source = FileSource(f"latest{i}.parquet", name=f"latest{i}_rows", timestamp_field="at")
        views.append(FeatureView(f"latest{i}", source=source, entities=[user], schema=SCHEMA, ttl="30d"))
        source = FileSource(f"windows{i}.parquet", name=f"windows{i}_rows", timestamp_field="at")
        views.append(FeatureView(f"windows{i}", source=source, entities=[user], aggregations=WINDOWS))
    store.apply(views)
    store.materialize()
    return store


def raw_reader(
    store: FeatureStore, views: list[str], *, unpack: Callable[[list[bytes]], Any]
) -> Callable[..., list[Any]]:
    """The least that has to be done: statements over the same file with packed keys, and the values to columns."""
    db = sqlite3.connect(open_store_of(store).stores.online.path, isolation_level=None, cached_statements=256)
    for pragma in ("mmap_size = 2147418112", "cache_size = -16384"):
        db.execute(f"PRAGMA {pragma}")
    numbers = []
    for view in map(store.get_feature_view, views):
        table = table_of("bench", view, str(current_generation(open_store_of(store).snapshot(), view)))
        query = "SELECT id FROM tables WHERE project = ? AND view = ? AND generation = ?"
        numbers.append(db.execute(query, table[:3]).fetchone()[0])
    alone = {number: f"SELECT value FROM rows_{number} WHERE key = ?" for number in numbers}
    several = "SELECT r.value FROM (VALUES {positions}) k CROSS JOIN rows_{number} r ON r.key = k.column1"

    def read(keys: list[bytes], unpack: Callable[[list[bytes]], Any] = unpack) -> list[Any]:
        answers = []
        for number in numbers:
            values: list[bytes] = []
            # At most 512 keys per statement: SQLite slows down with more.
            for start in range(0, len(keys), 512):
                piece = keys[start : start + 512]
                statement = alone[number]
                if len(piece) > 1:
                    statement = several.format(number=number, positions=", ".join(["(?)"] * len(piece)))
                values += [value for (value,) in db.execute(statement, piece).fetchall()]
            answers.append(unpack(values))
        return answers

    return read


_decode = msgspec.msgpack.Decoder(list).decode


def columns_of(values: list[bytes]) -> list[list[Any]]:
    """Packed latest rows as one list per column."""
    return list(map(list, zip(*map(_decode, values))))


def words_of(values: list[bytes]) -> Any:
    """Packed windows as their words: for one row as a tuple, else as one array."""
    if len(values) == 1:
        return struct.unpack(f"<{len(values[0]) >> 3}q", values[0])
    return np.frombuffer(b"".join(values), dtype=np.int64)


UNPACK: dict[str, Callable[[list[bytes]], Any]] = {"latest": columns_of, "windows": words_of}


def feast_program(folder: Path) -> Path:
    """A program that fills Feast's SQLite store with the same rows once, and measures how it reads them."""
    path = folder / "feast_online.py"
    if not path.exists():
        here = Path(__file__).resolve().parent.parent
        path.write_text(textwrap.dedent(FEAST).replace("FOLDER", repr(str(folder))).replace("HERE", repr(str(here))))
    return path


FEAST = """
    import random, sys
    from datetime import datetime, timedelta, timezone
    from pathlib import Path
    sys.path.insert(0, HERE)
    import pyarrow.parquet as pq
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Bool, Float64, Int64, String
    from benchmarks.harness import report

    folder, rows, calls = Path(FOLDER), int(sys.argv[1]), int(sys.argv[2])
    there = folder / "feast"
    is_new = not there.exists()
    there.mkdir(exist_ok=True)
    store = FeatureStore(config=RepoConfig(
        project="bench", provider="local", registry=str(there / "registry.db"),
        online_store={"type": "sqlite", "path": str(there / "online.db")}, entity_key_serialization_version=3,
    ))
    names = [f"f{i}" for i in range(6)] + ["i0", "i1", "b", "s"]
    if is_new:
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
        types = dict.fromkeys(names, Float64) | {"i0": Int64, "i1": Int64, "b": Bool, "s": String}
        views = [
            FeatureView(
                name=f"latest{i}", entities=[user], ttl=timedelta(0),
                schema=[Field(name="user_id", dtype=Int64)] + [Field(name=n, dtype=types[n]) for n in names],
                source=FileSource(path=str(folder / f"latest{i}.parquet"), timestamp_field="at"),
            )
            for i in range(3)
        ]
        store.apply([user, *views])
        now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        store.materialize(now - timedelta(days=2), now)
    users = pq.read_metadata(folder / "latest0.parquet").num_rows
    entity_rows = [{"user_id": n} for n in random.Random(rows).sample(range(users), rows)]
    references = [f"latest{i}:{n}" for i in range(3) for n in names]
    def work():
        return len(store.get_online_features(references, entity_rows, full_feature_names=True).to_dict()) - 1
    answer = store.get_online_features(references, entity_rows, full_feature_names=True).to_dict()
    assert not any(None in values for values in answer.values()), "Feast did not find its rows"
    report(work, calls=calls)
"""
"""Run by another Python, so it is kept as text."""
