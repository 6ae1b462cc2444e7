"""All values through one store: written, planned, applied, trained on, materialized, pushed, served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from asof import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from asof.definitions import Definition, Source
from asof.types import Int64, Timestamp
from tests.matrix.cases import CASES, NOON, REFUSED, US, Case, Impossible
from tests.matrix.outcomes import Refused, plain

AT = NOON + timedelta(hours=1)
USER = Entity("user")

Found = dict[str, dict[str, Any]]
"""Way → case → the value that came out, or its refusal."""


def rows_of(case: Case, key: int = 1) -> pa.Table:
    return pa.table({"user": pa.array([key], pa.int64()), "at": pa.array([NOON], US), "value": case.array})


def parquet_source(folder: Path) -> Callable[[str, Case], Source]:
    def made(name: str, case: Case) -> Source:
        pq.write_table(rows_of(case), folder / f"{name}.parquet")
        return FileSource(name=name, path=str(folder / f"{name}.parquet"), timestamp_field="at")

    return made


@dataclass
class BatchRun:
    """Batch rows of each case through one store: a source and a view each.

    Args:
        source_of: makes the source of a case, its rows written.
    """

    store: FeatureStore
    source_of: Callable[[str, Any], Source]
    cases: Mapping[str, Any] = field(default_factory=lambda: CASES)
    found: Found = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)

    def run(self) -> Found:
        self._apply()
        fine = [name for name in self.views if self.cases[name].expected is not REFUSED]
        self.found["trained"] |= self._each(fine, self._trained)
        self.found["served"] |= self._each(fine, self._served)
        for side, ask in (("trained", self._history), ("served", self._online)):
            names = [name for name in fine if not isinstance(self.found[side][name], Refused)]
            self.found |= ways_out(side, ask(names), {name: f"{self.views[name]}__value" for name in names})
        return self.found

    def _apply(self) -> None:
        made: dict[str, list[Definition]] = {}
        for place, (name, case) in enumerate(self.cases.items()):
            try:
                source = self.source_of(f"s{place}", case)
            except Impossible:
                continue
            fields = [Field("user", Int64), Field("value", case.dtype)]
            self.views[name] = f"v{place}"
            made[name] = [source, FeatureView(f"v{place}", entities=[USER], source=source, schema=fields)]
        plan = self.store.plan([USER, *(each for objects in made.values() for each in objects)])
        refused = {}
        for name in list(made):
            about = [f"'{each.name}'" for each in made[name]]
            words = [str(each) for each in plan.errors if any(one in str(each) for one in about)]
            if words:
                refused[name] = Refused("; ".join(words))
                del made[name], self.views[name]
        self.found = {"trained": dict(refused), "served": dict(refused)}
        self.store.apply([USER, *(each for objects in made.values() for each in objects)])

    def _each(self, fine: Sequence[str], ask: Callable[[Sequence[str]], list[Any]]) -> dict[str, Any]:
        """What is expected to fit at once, unless something does not; the others one by one."""
        try:
            found = dict(zip(fine, ask(fine), strict=True))
        except Exception:
            found = {}
        for name in self.views.keys() - found.keys():
            try:
                found[name] = ask([name])[0]
            except Exception as error:  # what is none of ours fails the cell
                found[name] = Refused(error)
        return found

    def _trained(self, names: Sequence[str]) -> list[Any]:
        table = self._history(names).to_arrow()
        return [table[f"{self.views[name]}__value"][0].as_py() for name in names]

    def _served(self, names: Sequence[str]) -> list[Any]:
        self.store.materialize(feature_views=[self.views[name] for name in names])
        answer = self._online(names).to_dict()
        return [answer[f"{self.views[name]}__value"][0] for name in names]

    def _history(self, names: Sequence[str]) -> Any:
        # The second user has no rows: a null beside each value.
        frame = pa.table({"user": pa.array([1, 2], pa.int64()), "event_timestamp": pa.array([AT, AT], US)})
        return self.store.get_historical_features(frame, self._features(names), full_feature_names=True)

    def _online(self, names: Sequence[str]) -> Any:
        return self.store.get_online_features(self._features(names), {"user": [1, 2]}, full_feature_names=True)

    def _features(self, names: Sequence[str]) -> list[str]:
        return [f"{self.views[name]}:value" for name in names]


def ways_out(side: str, result: Any, columns: Mapping[str, str]) -> Found:
    """The same values by each way out.

    Args:
        columns: case → its column.
    """
    frame = result.to_df()
    ways = {
        "to_arrow": result.to_arrow().to_pylist()[0], "to_polars": result.to_polars().to_dicts()[0],
        "to_df": {name: None if frame[name].dtype == "str" and frame[name].isna()[0] else plain(frame[name].iloc[0])
                  for name in frame.columns}, "rows": next(iter(result)).to_dict(),
    }  # fmt: skip
    return {f"{side}, {way}": {name: row[column] for name, column in columns.items()} for way, row in ways.items()}


def by_dicts(rows: pa.Table) -> Any:
    try:
        return rows.to_pylist()
    except OverflowError as error:
        raise Impossible from error


def by_pandas(rows: pa.Table) -> Any:
    try:
        return rows.to_pandas()
    except (OverflowError, ValueError) as error:
        raise Impossible from error


PUSHES: dict[str, Callable[[pa.Table], Any]] = {
    "dicts": by_dicts, "arrow": lambda rows: rows, "pandas": by_pandas, "polars": pl.from_arrow,
}  # fmt: skip
"""The ways in which rows are pushed."""


def pushed(store: FeatureStore) -> Found:
    """Each case pushed by each way, and read back by both sides."""
    dtypes = list(dict.fromkeys(case.dtype for case in CASES.values()))
    fields = {dtype: [Field("user", Int64), Field("value", dtype)] for dtype in dtypes}
    sources = {
        dtype: PushSource(f"p{place}", schema=[*fields[dtype], Field("at", Timestamp)], timestamp_field="at")
        for place, dtype in enumerate(dtypes)
    }
    views = {
        dtype: FeatureView(f"w{place}", entities=[USER], source=sources[dtype], schema=fields[dtype])
        for place, dtype in enumerate(dtypes)
    }
    store.apply([USER, *sources.values(), *views.values()])
    found: Found = {f"push of {way}, {side}": {} for way in PUSHES for side in ("trained", "served")}
    keys: dict[tuple[str, str], int] = {}
    for way, rows in PUSHES.items():
        for name, case in CASES.items():
            key = len(keys) + 1
            try:
                store.push(sources[case.dtype].name, rows(rows_of(case, key)))
                keys[way, name] = key
            except Impossible:
                continue
            except Exception as error:  # what is none of ours fails the cell
                for side in ("trained", "served"):
                    found[f"push of {way}, {side}"][name] = Refused(error)
    for dtype in dtypes:
        mine = {pair: key for pair, key in keys.items() if CASES[pair[1]].dtype == dtype}
        for side, values in _read_back(store, f"{views[dtype].name}:value", mine.values()).items():
            for (way, name), value in zip(mine, values, strict=True):
                found[f"push of {way}, {side}"][name] = value
    return found


def _read_back(store: FeatureStore, feature: str, keys: Iterable[int]) -> dict[str, list[Any]]:
    asked = list(keys)
    if not asked:
        return {}
    frame = pa.table({"user": pa.array(asked, pa.int64()), "event_timestamp": pa.array([AT] * len(asked), US)})
    served: Any = store.get_online_features([feature], {"user": asked}).to_dict()["value"]
    trained = store.get_historical_features(frame, [feature]).to_arrow()["value"].to_pylist()
    return {"served": served, "trained": trained}


__all__ = ["AT", "BatchRun", "Found", "parquet_source", "pushed"]
