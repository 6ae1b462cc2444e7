"""One life: random steps over a store's public verbs, the rows that each side must have seen, and the comparison."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from asof.definitions import FeatureView
from asof.expressions import parse
from asof.testing.clock import NOW
from asof.testing.evaluator import evaluate
from asof.timing import DAY, HOUR, MINUTE, SECOND, Micros, moment
from tests.lives.definitions import draw, redraw
from tests.lives.processes import Clocks, Opened, Process, Read, Served, Spawned
from tests.lives.rows import (
    KEYS,
    VALUES,
    Values,
    dicts_of,
    key_of,
    message_of,
    random_created,
    random_keys,
    random_row,
    rank,
    table_of,
)
from tests.oracle import Row, features_at, history_of, same

TIMES = pa.timestamp("us", "UTC")
MAGNITUDE = 4096.0
"""What sums of floats here are made of at most, so that 1e-9 of it is below their last digit."""


def _in_file(frame: pa.Table, path: Path) -> str:
    pq.write_table(frame, path)
    return str(path)


FRAMES: dict[str, Callable[[pa.Table, Path], Any]] = {
    "arrow": lambda frame, _: frame, "polars": lambda frame, _: pl.from_arrow(frame), "a file": _in_file,
    "pandas": lambda frame, _: frame.to_pandas(), "dicts": lambda frame, _: frame.to_pydict(),
}  # fmt: skip
"""The forms in which an entity frame is given."""
_POSTGRES = {
    "Int64": "bigint", "Int32": "integer", "Float64": "double precision", "Float32": "real", "String": "text",
    "Bool": "boolean", "Bytes": "bytea", "Date": "date", "Timestamp": "timestamptz", "Json": "json",
}  # fmt: skip


def postgres_type(dtype: Any) -> str:
    """The column type of a Postgres table for a type."""
    if dtype.name == "Array":
        return f"{postgres_type(dtype.inner)}[]"
    if dtype.name == "Embedding":
        return "real[]"
    return f"numeric({dtype.precision},{dtype.scale})" if dtype.name == "Decimal" else _POSTGRES[dtype.name]


@dataclass
class SetUp:
    """Where a life is lived.

    Args:
        yaml: the sections of feature_store.yaml, but for the project.
        database: the URL of the database that has the table of batch rows; files where there is none.
    """

    yaml: str = ""
    database: str = ""


@dataclass
class Life:
    """A store with random definitions, and what it must know.

    Args:
        spawned: whether a process of its own pushes too.
        spines: how many rows a historical read may have.
        answers: how many values were compared.
    """

    folder: Path
    set_up: SetUp
    seed: int
    spawned: bool = False
    spines: tuple[int, ...] = (1, 60, 200)
    answers: int = 0
    arrivals: int = 0
    steps: list[str] = field(default_factory=list)
    rows: dict[str, list[Values]] = field(default_factory=lambda: {"pushed": [], "sent": [], "batch": []})
    waiting: list[Values] = field(default_factory=list)
    written: dict[str, dict[tuple[Any, ...], list[Values]]] = field(default_factory=lambda: defaultdict(dict))
    until: dict[str, Micros] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.clocks = Clocks(NOW)
        self.folder.mkdir(parents=True, exist_ok=True)
        log = f"log: {{type: file, partitions: {1 + self.seed % 3}}}\n"
        yaml = f"project: life{self.seed}\n{log}{self.set_up.yaml}"
        (self.folder / "feature_store.yaml").write_text(yaml, encoding="utf-8")
        self.table = f"public.batch_{self.seed}" if self.set_up.database else ""
        self.batch_folder = self.folder / "batch"
        self.drawn = draw(
            self.rng, batch_path=str(self.batch_folder), table=self.table, now=NOW,
            in_postgres="offline_store: {type: postgres" in yaml,
        )  # fmt: skip
        self.keys = random_keys(self.rng, self.drawn.of.keys, 6)
        self._memo: dict[tuple[str, int], Any] = {}
        self._kept: list[Values] = []
        self.opened: Process = Opened(self.folder, self.clocks)
        self.processes: list[Process] = [self.opened]
        self.pushing: set[Process] = set()

    # ---- the steps ----

    def live(self, steps: int) -> int:
        """Live for a number of steps, compare after some of them and in the end; how many values were compared.

        Raises:
            AssertionError: with the seed, and all that was done.
        """
        try:
            self._begin()
            for _ in range(steps):
                step = self.rng.choice(self._choices())
                self.steps.append(step.__name__)
                self._tick()
                step()
            for last in (
                self.run_stream,
                self.add_batch_rows,
                self.materialize,
                self.compare_online,
                self.compare_history,
            ):
                self.steps.append(last.__name__)
                last()
        except Exception as error:
            words = f"seed {self.seed} of {self.set_up.yaml!r} after {len(self.steps)} steps {self.steps}: {error}"
            raise AssertionError(words) from error
        finally:
            for process in self.processes:
                process.close()
        return self.answers

    def _choices(self) -> list[Callable[[], None]]:
        return [
            *[self.push] * 6, *[self.send] * 4, *[self.add_batch_rows] * 2, *[self.run_stream] * 2, self.materialize,
            self.materialize, self.rebuild, self.change, self.restart, self.compact, self.write_directly,
            self.write_directly, self.forget, *[self.move_clock] * 3, *[self.compare_online] * 3,
            *[self.compare_history] * 2,
        ]  # fmt: skip

    @property
    def store(self) -> Any:
        assert isinstance(self.opened, Opened)
        return self.opened.store

    def _tick(self) -> None:
        """The system's clock goes on, so that what is pushed later has a greater stamp."""
        self.clocks.system = max(self.clocks.system + 1, self.clocks.now)

    def _begin(self) -> None:
        self.add_batch_rows()
        before = []
        if self.drawn.begins is not None:
            # One row at a time, so that no two are equal in order: history has no arrival among itself.
            for place in range(20):
                row = self._row("pushed")
                row["event_time"] = self.drawn.begins - 2 * DAY + place * HOUR
                before.append({**row, "arrival": (0, place), "known": row.get("created", NOW)})
            folder = Path(f"{self.batch_folder}-before")
            folder.mkdir()
            pq.write_table(table_of(before, self.drawn.of), folder / "rows.parquet")
        self.store.apply(self.drawn.objects)
        if before:
            self.store.backfill("pushed")
            self.rows["pushed"] += before
        self.processes.append(Opened(self.folder, self.clocks))
        self.processes.append(Served(self.folder, self.clocks))
        if self.spawned:
            self.processes.append(Spawned(self.folder, self.clocks))

    def _row(self, source: str, *, ahead: bool = True) -> Values:
        row = random_row(self.rng, self.rng.choice(self.keys), self.clocks.now, ahead=ahead)
        if self.drawn.has_created[source]:
            row["created"] = random_created(self.rng, row, self.clocks.now)
        return row

    def push(self) -> None:
        rows = [self._row("pushed") for _ in range(self.rng.randint(1, 8))]
        if self.drawn.begins is not None and self.rng.random() < 0.1:
            rows[0]["event_time"] = self.drawn.begins - SECOND
        process = self.rng.choice(self.processes)
        form: Any = dicts_of(rows, self.drawn.of) if self.rng.random() < 0.5 else table_of(rows, self.drawn.of)
        batch_id = f"b{self.arrivals}" if self.rng.random() < 0.3 else None
        stamp = self.clocks.system
        process.push("pushed", form, batch_id)
        self.pushing.add(process)
        if batch_id and self.rng.random() < 0.5:
            self._tick()
            self.rng.choice(self.processes).push("pushed", form, batch_id)
        for row in rows:
            if self.drawn.begins is None or row["event_time"] >= self.drawn.begins:
                arrived = self._arrived()
                # Where the source has a created time, that says when a row was known.
                self.rows["pushed"].append({**row, **arrived, "known": row.get("created", stamp)})

    def _arrived(self) -> Values:
        self.arrivals += 1
        return {"arrival": (1, self.arrivals)}

    def send(self) -> None:
        rows = [self._row("sent") for _ in range(self.rng.randint(1, 8))]
        messages = [message_of(row, self.drawn.of) for row in rows]
        if self.rng.random() < 0.1:
            messages.append(b'{"no": "key"}')
        positions = self.store.send("sent", messages)
        for row, (partition, offset) in zip(rows, positions, strict=False):
            self.waiting.append({**row, "arrival": (offset, partition)})

    def run_stream(self) -> None:
        self.store.stream_run(["sent"], until_caught_up=True)
        for row in self.waiting:
            row["known"] = row.get("created", self.clocks.now)
        self.rows["sent"] += self.waiting
        self.waiting = []

    def add_batch_rows(self) -> None:
        rows = [self._row("batch") for _ in range(self.rng.randint(1, 8))]
        if self.table:
            self._insert(rows)
        else:
            self.batch_folder.mkdir(exist_ok=True)
            name = f"{self.arrivals:06d}.parquet"
            pq.write_table(table_of(rows, self.drawn.of_batch), self.batch_folder / name)
            rows = [{**row, "file": name} for row in rows]
        for row in rows:
            self.rows["batch"].append({**row, **self._arrived(), "known": row.get("created")})

    def _insert(self, rows: list[Values]) -> None:
        columns = {field.name: field.dtype for field in self.drawn.of_batch.fields}
        names = ", ".join(f'"{name}"' for name in (*columns, "at", "written"))
        with psycopg.connect(self.set_up.database, autocommit=True) as connection:
            types = ", ".join(f'"{name}" {postgres_type(dtype)}' for name, dtype in columns.items())
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table} ({types}, at timestamptz, written timestamptz)"
            )
            marks = ", ".join([f"%s::{postgres_type(dtype)}" for dtype in columns.values()] + ["%s"] * 2)
            made = dicts_of(rows, self.drawn.of_batch)
            values = [tuple(row[name] for name in (*columns, "at", "written")) for row in made]
            connection.cursor().executemany(f"INSERT INTO {self.table} ({names}) VALUES ({marks})", values)

    def materialize(self) -> None:
        kind = self.rng.choice(("news", "news", "between", "full"))
        start = end = None
        if kind == "between":
            start = self.clocks.now - self.rng.choice((HOUR, DAY, 60 * DAY))
            end = start + self.rng.choice((30 * MINUTE, 2 * DAY, 90 * DAY))
        self.steps[-1] += f" {kind}"
        self.store.materialize(
            None if start is None else moment(start), None if end is None else moment(end), full=kind == "full"
        )
        for view in self._views("batch"):
            self._written(view, start, end, full=kind == "full")

    def _written(self, view: FeatureView, start: Micros | None, end: Micros | None, *, full: bool) -> None:
        """What a run writes: of plain fields the chosen rows; of aggregations the whole state of each touched key."""
        latest = self.clocks.now - view.delay
        if end is not None:
            latest = min(latest, end - 1)
        until = self.until[view.name] = max(latest, self.until.get(view.name, latest))
        rows = self.rows["batch"]
        chosen = [row for row in rows if row["event_time"] <= latest and (start is None or row["event_time"] >= start)]
        kept = self.written[view.name]
        if full:
            kept.clear()
        by_key = grouped(chosen, view.join_keys)
        if view.is_aggregated:
            all_of = grouped((row for row in rows if row["event_time"] <= until), view.join_keys)
            kept.update({key: all_of[key] for key in by_key})
            return
        for key, more in by_key.items():
            known = {id(row) for row in kept.get(key, [])}
            kept[key] = [*kept.get(key, []), *(row for row in more if id(row) not in known)]

    def write_directly(self) -> None:
        """Rows for the online store only; of rows of equal times they come after those of the source."""
        (view,) = (each for each in self._views("batch") if not each.is_aggregated)
        has_created = self.drawn.has_created["batch"]
        rows = []
        for _ in range(self.rng.randint(1, 5)):
            row = self._row("batch", ahead=False)
            row["event_time"] = min(row["event_time"], self.clocks.now - view.delay)
            if has_created and self.rng.random() < 0.3:
                row["created"] = None
            rows.append(row)
        made = [
            {name: row[name] for name in (*view.join_keys, *view.feature_names)}
            | {"at": moment(row["event_time"])}
            | ({"written": row["created"] and moment(row["created"])} if has_created else {})
            for row in rows
        ]
        if has_created and all(row["created"] is None for row in rows):
            made = [{name: value for name, value in row.items() if name != "written"} for row in made]
        self.store.write_to_online_store(
            view.name,
            made
            if self.rng.random() < 0.5
            else pa.Table.from_pylist(
                made,
                pa.schema(
                    [(each.name, each.dtype.arrow()) for each in self.drawn.of_batch.fields if each.name in made[0]]
                    + [(each, TIMES) for each in ("at", "written") if each in made[0]]
                ),
            ),
        )
        for row in rows:
            self.arrivals += 1
            # The direct arrival sorts behind that of files, (1, number), and that of tables, which are ranks.
            arrival = ((9,), self.arrivals) if self.table else (2, self.arrivals)
            made_row = {**row, "arrival": arrival, "direct": True}
            if has_created and row["created"] is None:
                made_row["created"] = self.clocks.now
            self.written[view.name].setdefault(key_of(row, view.join_keys), []).append(made_row)

    def forget(self) -> None:
        """A key, or all keys that begin like it, is removed from logs, archives and online rows, but not from batch sources."""
        key = self.rng.choice(self.keys)
        names = self.drawn.of.keys if self.rng.random() < 0.5 else self.drawn.of.keys[:1]
        entity = "wide" if len(names) < len(self.drawn.of.keys) else "thing"
        self._archive_all()
        report = self.store.forget(entity, {name: key[name] for name in names})

        def is_it(row: Values) -> bool:
            return all(row[name] == key[name] for name in names)

        before = [row for row in self.rows["pushed"] if row["arrival"][0] == 0 and not is_it(row)]
        if self.drawn.begins is not None:
            # As it says: a source that Asof does not write would bring them back.
            assert "before" in report.sources
            pq.write_table(table_of(before, self.drawn.of), Path(f"{self.batch_folder}-before") / "rows.parquet")
        self._delete_batch_rows(is_it)
        removed = {name: any(map(is_it, self.rows[name])) for name in ("pushed", "sent")}
        for name in removed:
            self.rows[name] = [row for row in self.rows[name] if not is_it(row)]
        self.waiting = [row for row in self.waiting if not is_it(row)]
        for view in self._views("batch"):
            if set(names) <= set(view.join_keys):
                for held in list(self.written[view.name]):
                    if is_it(dict(zip(view.join_keys, held, strict=True))):
                        del self.written[view.name][held]
        # Rows under fewer keys hold what was made of the removed events, too.
        stale = [
            view.name for name in removed if removed[name]
            for view in self._views(name) if not set(names) <= set(view.join_keys)
        ]  # fmt: skip
        noted = [name for name in stale if any(name in note and "asof rebuild" in note for note in report.notes)]
        assert noted == stale, (stale, report.notes)
        if stale:
            self.store.rebuild(stale)

    def _delete_batch_rows(self, is_it: Callable[[Values], bool]) -> None:
        """What `forget` says is left to do: a run that reads the rows again would bring them back."""
        kept = [row for row in self.rows["batch"] if not is_it(row)]
        if len(kept) < len(self.rows["batch"]):
            if self.table:
                with psycopg.connect(self.set_up.database, autocommit=True) as connection:
                    connection.execute(f"DELETE FROM {self.table}")
                if kept:
                    self._insert(kept)
            else:
                for name in sorted({row["file"] for row in self.rows["batch"] if is_it(row)}):
                    left = [row for row in kept if row["file"] == name]
                    pq.write_table(table_of(left, self.drawn.of_batch), self.batch_folder / name)
        self.rows["batch"] = kept

    def rebuild(self) -> None:
        view = self.rng.choice(self._views("pushed") + self._views("sent"))
        self._archive_all()
        self.store.rebuild([view.name])

    def change(self) -> None:
        """A view over a log gets other aggregations: `apply` builds its rows anew from the archive."""
        self._archive_all()
        self.store.apply([redraw(self.rng, self.rng.choice(("pushed_sums", "sent_sums")), self.drawn)])
        # A server looks for changes every second, others with each request.
        for place, process in enumerate(self.processes):
            if isinstance(process, Served):
                process.close()
                self.processes[place] = Served(self.folder, self.clocks)

    def restart(self) -> None:
        """One process ends (the one of its own is killed) and another one comes."""
        place = self.rng.randrange(len(self.processes))
        process = self.processes[place]
        if isinstance(process, Spawned):
            process.die()
        else:
            process.close()
        self.processes[place] = type(process)(self.folder, self.clocks)  # type: ignore[call-arg]
        if process is self.opened:
            self.opened = self.processes[place]

    def compact(self) -> None:
        self.store.compact()

    def move_clock(self) -> None:
        self.clocks.now += self.rng.choice((1, SECOND, MINUTE, 31 * MINUTE, 2 * HOUR, 3 * DAY))
        self._tick()

    # ---- the comparison ----

    def _views(self, source: str) -> list[FeatureView]:
        return [view for view in self._resolved() if view.source.name == source]

    def _resolved(self) -> list[FeatureView]:
        return [self.store.get_feature_view(view.name) for view in self.drawn.views]

    def _archive_all(self) -> None:
        name = self.drawn.of.keys
        key = {each: pa.array([self.keys[0][each]], KEYS[each][0].arrow()) for each in name}
        for process in self.processes:
            if process in self.pushing:
                process.archive("pushed_newest", key)
        self.pushing.clear()

    def evaluated(self, text: str, row: Row) -> Any:
        """An expression over a row, remembered: it is asked for again with every moment."""
        found = self._memo.get((text, row["id"]), self)
        if found is self:
            schema = {name: dtype for name, (dtype, _) in VALUES.items()}
            found = self._memo[text, row["id"]] = evaluate(parse(text), row, schema=schema)
        return found

    def _histories(self, view: FeatureView, rows: Iterable[Values]) -> dict[tuple[Any, ...], list[Row]]:
        """Key → its rows in their order, for one view."""
        made = []
        for row in rows:
            if "id" not in row:
                row["id"] = len(self._kept)
                self._kept.append(row)
            if self.table and view.source.name == "batch" and "direct" not in row:
                row = {**row, "arrival": tuple(rank(row[name]) for name in self.drawn.read[view.name])}
            made.append(row)
        by_key = grouped(made, view.join_keys)
        return {key: history_of(each, view, self.evaluated) for key, each in by_key.items()}

    def compare_online(self) -> None:
        process = self.rng.choice(self.processes)
        self.steps[-1] += f" by {type(process).__name__}"
        views = self._resolved()
        features = [f"{view.name}:{name}" for view in views for name in view.feature_names]
        unseen = random_keys(self.rng, self.drawn.of.keys, 2)
        keys = [*self.keys, *unseen]
        asked = {name: [key[name] for key in keys] for name in self.drawn.of.keys}
        found, statuses = self._read(process, features, asked)
        for view in views:
            if view.source.name == "batch":
                rows: Iterable[Values] = [row for each in self.written[view.name].values() for row in each]
            else:
                rows = self.rows[view.source.name]
            histories = self._histories(view, rows)
            for place, key in enumerate(keys):
                values = {name: found[f"{view.name}__{name}"][place] for name in view.feature_names}
                self._compare(view, histories, key, self.clocks.now, values)
                self._compare_statuses(view, histories, key, values, {
                    name: statuses[f"{view.name}__{name}"][place] for name in view.feature_names})  # fmt: skip

    def _read(self, process: Process, features: list[str], keys: Values) -> Read:
        """What is served, once no row is incomplete: a late event may have changed a session, and who took it makes the
        row again from history."""
        for _ in range(300):
            try:
                return process.read(features, keys)
            except Exception as error:
                if "is incomplete: a late event may have changed its session" not in str(error):
                    raise
            self._archive_all()
            time.sleep(0.1)
        raise AssertionError("a row stays incomplete")

    def _compare_statuses(
        self, view: FeatureView, histories: dict[tuple[Any, ...], list[Row]], key: Values, values: Values, found: Values
    ) -> None:
        """The status of each value that is served, as the age of the key's newest row says it."""
        expected = {name: "NULL_VALUE" if value is None else "PRESENT" for name, value in values.items()}
        if not view.is_aggregated:
            t = self.clocks.now - view.delay
            history = histories.get(key_of(key, view.join_keys), [])
            newest = next((row for row in reversed(history) if row["event_time"] <= t), None)
            if newest is None:
                expected = dict.fromkeys(values, "NOT_FOUND")
            elif newest["gone"]:
                return
            elif view.ttl and newest["event_time"] < t - view.ttl:
                is_near = newest["event_time"] >= t - view.ttl - 7 * DAY
                expected = dict.fromkeys(values, "OUTSIDE_MAX_AGE" if is_near else "NOT_FOUND")
        assert found == expected, (view.name, key, self.clocks.now, found, expected)

    def compare_history(self) -> None:
        self._archive_all()
        views = self._resolved()
        features = [f"{view.name}:{name}" for view in views for name in view.feature_names]
        known_at = self.rng.choice((None, None, True, self.clocks.now - 20 * MINUTE))
        if known_at is not None:
            # Batch rows that nothing says when they were written are known from their event time on.
            self.steps[-1] += f" known at {known_at}"
        spine = [(self.rng.choice(self.keys), self._moment()) for _ in range(self.rng.choice(self.spines))]
        frame = pa.table({
            **{name: pa.array([key[name] for key, _ in spine], KEYS[name][0].arrow()) for name in self.drawn.of.keys},
            "event_timestamp": pa.array([t for _, t in spine], TIMES), "label": pa.array(range(len(spine))),
        })  # fmt: skip
        asked = moment(known_at) if isinstance(known_at, int) and known_at is not True else known_at
        form = self.rng.choice(list(FRAMES))
        self.steps[-1] += f" by {form}"
        given = FRAMES[form](frame, self.folder / "spine.parquet")
        result = self.store.get_historical_features(given, features, full_feature_names=True, known_at=asked)
        table = result.to_arrow()
        assert table["label"].to_pylist() == list(range(len(spine)))
        columns = {name: table[name].to_pylist() for name in table.column_names}
        for view in views:
            histories = self._histories(view, self.rows[view.source.name])
            for place, (key, t) in enumerate(spine):
                self._compare(view, histories, key, t, {
                    name: columns[f"{view.name}__{name}"][place] for name in view.feature_names}, known_at)  # fmt: skip

    def _moment(self) -> Micros:
        """Some moment near what happened: at, just before and after rows, and where windows and ttls end."""
        rows = self.rows[self.rng.choice(("pushed", "sent", "batch"))]
        near = self.rng.choice(rows)["event_time"] if rows and self.rng.random() < 0.8 else self.clocks.now
        return (
            near
            + self.rng.choice((0, 0, MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, 2 * DAY))
            + self.rng.choice((0, 0, 1, -1))
        )

    def _compare(
        self, view: FeatureView, histories: dict[tuple[Any, ...], list[Row]], key: Values, t: Micros, found: Values,
        known_at: bool | int | None = None,
    ) -> None:  # fmt: skip
        history = histories.get(key_of(key, view.join_keys), [])
        expected = features_at(history, view, t, known_at=known_at, evaluate=self.evaluated)
        self.answers += len(expected)
        for name, value in expected.items():
            if not same(value, found[name], MAGNITUDE):
                about = next((each for each in view.aggregations if each.name == name), name)
                rows = [{each: row.get(each) for each in ("event_time", "created", "known", "arrival", "gone", "n", "s", name)}
                        for row in history[-6:]]  # fmt: skip
                raise AssertionError(
                    f"{view.name}:{about} of {key} at {t} (now {self.clocks.now}, known_at {known_at}, ttl {view.ttl}, "
                    f"delay {view.delay}, {view.boundary}): expected {value!r}, found {found[name]!r}; rows {rows}"
                )


def grouped(rows: Iterable[Values], names: Iterable[str]) -> dict[tuple[Any, ...], list[Values]]:
    """Rows by key."""
    found: dict[tuple[Any, ...], list[Values]] = {}
    keys = tuple(names)
    for row in rows:
        found.setdefault(key_of(row, keys), []).append(row)
    return found
