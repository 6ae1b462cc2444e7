"""The steps of a profile: which statements run over one state of the rows, and what becomes of their results.

Each statement measures all columns in one scan: first counts, extremes, moments and quantiles; then, as the bins are
known by these, the counts of bins and of frequent values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from math import isfinite

from asof.dtypes import DType
from asof.profiles.bins import TAIL_SHARE, drift_edges, histogram_edges
from asof.profiles.drift import FeatureDrift, drift_of
from asof.profiles.summary import Cells, FeatureProfile, Histogram, MeasuredRows, Scalar, TopValue
from asof.sql.profile import (
    DECILES,
    QUANTILES,
    TIME,
    CountedCells,
    ProfiledColumn,
    ProfileDialect,
    ProfileSession,
    WantedCells,
)
from asof.timing import iso, micros

EXACT_ROWS = 1_000_000
"""Up to so many rows everything is exact; of more, quantiles and distinct values are estimated by the engine where it
has estimates, and frequent values are chosen by a sample."""

SAMPLED_ROWS = 50_000
"""About how many rows choose the frequent values of more than `EXACT_ROWS`."""

COLUMNS_AT_ONCE = 100
"""How many columns one statement measures: engines limit the number of a result's columns."""

ROWS, SAMPLE = "asof_profiled", "asof_profile_sample"
"""The temporary tables of few rows, and of a sample of many."""

Value = str | int | float | bool | bytes | Decimal | date | datetime | Sequence[float] | Mapping[str, int] | None
"""What a fetched cell may be."""


def measure(
    session: ProfileSession,
    forms: ProfileDialect,
    columns: Sequence[ProfiledColumn],
    rows: str,
    *,
    view: str,
    has_times: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MeasuredRows:
    """Measure all columns of a SELECT.

    Args:
        rows: SELECT of the columns by their `sql`.
        has_times: it has the column `TIME`, too.
        progress: given how many of the steps are done.
    """
    steps = 4
    progress(0, steps)
    newest = f", max({TIME}) AS newest" if has_times else ""
    first = session.fetch(f"SELECT count(*) AS n{newest} FROM (\n{rows}\n) AS asof_q").to_pylist()[0]
    count, last = int(first["n"]), first.get("newest")
    if not columns:
        return MeasuredRows(rows=count, newest=None if last is None else micros(last))
    is_small = count <= EXACT_ROWS
    relation = ROWS if is_small else f"(\n{rows}\n) AS asof_q"
    if is_small:
        session.execute(f"CREATE TEMP TABLE {ROWS} AS\n{rows}")
    else:
        session.execute(f"CREATE TEMP TABLE {SAMPLE} AS\n{forms.sample(relation, SAMPLED_ROWS / count)}")
    progress(1, steps)
    estimated = forms.estimates and not is_small
    found: dict[str, Value] = {}
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        chunk = list(enumerate(columns))[start : start + COLUMNS_AT_ONCE]
        terms = [term for i, each in chunk for term in forms.measures(each, f"c{i}", estimated=estimated)]
        found |= session.fetch(f"SELECT {', '.join(terms)}\nFROM {relation}").to_pylist()[0]
    progress(2, steps)
    frequent = _frequent(session, forms, columns, ROWS if is_small else SAMPLE)
    progress(3, steps)
    profiles: list[FeatureProfile] = []
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        positions = range(start, min(start + COLUMNS_AT_ONCE, len(columns)))
        planned = [
            _ColumnCells(columns[i], _Measures(columns[i], found, f"c{i}"), frequent.get(i, [])) for i in positions
        ]
        wanted = [each.wanted for each in planned]
        counted = [CountedCells([], []) for _ in wanted]
        if any(each.edges or each.values for each in wanted):
            counted = forms.counts(wanted, session.fetch(forms.cells(wanted, relation)))
        profiles += [
            plan.profile(cells, view=view, rows=count, estimated=estimated, sampled=not is_small)
            for plan, cells in zip(planned, counted, strict=True)
        ]
    session.execute(f"DROP TABLE {ROWS if is_small else SAMPLE}")
    progress(steps, steps)
    missed = {
        each.name: [_Measures(each, found, f"c{i}").count(f"e{number}") for number in range(len(each.expectations))]
        for i, each in enumerate(columns) if each.expectations
    }  # fmt: skip
    return MeasuredRows(rows=count, newest=None if last is None else micros(last), features=profiles, misses=missed)


def _frequent(
    session: ProfileSession, forms: ProfileDialect, columns: Sequence[ProfiledColumn], relation: str
) -> dict[int, list[Scalar]]:
    """Column → its most frequent values, the first ones first."""
    selects = [
        forms.frequent(each, i, relation)
        for i, each in enumerate(columns)
        if each.has_top_values and not each.is_hidden
    ]
    frequent: dict[int, list[tuple[int, Scalar]]] = {}
    for start in range(0, len(selects), COLUMNS_AT_ONCE):
        table = session.fetch("\nUNION ALL\n".join(f"({each})" for each in selects[start : start + COLUMNS_AT_ONCE]))
        for row in table.to_pylist():
            value = _parsed(row["value"], columns[row["place"]].dtype)
            frequent.setdefault(row["place"], []).append((-row["n"], value))
    return {place: [value for _, value in sorted(pairs, key=_by_count)] for place, pairs in frequent.items()}


def _by_count(pair: tuple[int, Scalar]) -> tuple[int, str]:
    return pair[0], str(pair[1])


def _parsed(text: str, dtype: DType) -> Scalar:
    if dtype.is_integer:
        return int(text)
    return text == "true" if dtype.name == "Bool" else text


class _Measures:
    """The measures of one column, by name."""

    def __init__(self, column: ProfiledColumn, found: Mapping[str, Value], alias: str) -> None:
        self._found, self._alias, self._column = found, alias, column

    def count(self, name: str) -> int:
        value = self._found.get(f"{self._alias}_{name}")
        return int(value) if isinstance(value, int) else 0

    def number(self, name: str) -> float | None:
        value = self._found.get(f"{self._alias}_{name}")
        return float(value) if isinstance(value, int | float | Decimal) and isfinite(value) else None

    def extreme(self, name: str) -> Scalar | None:
        """The least or greatest value as JSON has it."""
        value = self._found.get(f"{self._alias}_{name}")
        if isinstance(value, datetime):
            return iso(micros(value))
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, Decimal):
            return str(value)
        return value if isinstance(value, str | int | float) else None

    @property
    def quantiles(self) -> dict[float, float]:
        values = self._found.get(f"{self._alias}_q")
        if not isinstance(values, Sequence) or isinstance(values, str | bytes):
            return {}
        return dict(zip(QUANTILES, values, strict=True))

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the greatest number."""
        low, high = self.number("low"), self.number("high")
        return None if low is None or high is None else (low, high)


class _ColumnCells:
    """One column between its measures and the counts of its cells."""

    def __init__(self, column: ProfiledColumn, measures: _Measures, frequent: Sequence[Scalar]) -> None:
        self.column, self.measures, self.frequent = column, measures, frequent
        self.ends, quantiles = measures.ends, measures.quantiles
        self.histogram: list[float] = []
        self.deciles: list[float] = []
        if self.ends is not None and quantiles:
            near = (quantiles[TAIL_SHARE], quantiles[1 - TAIL_SHARE])
            self.histogram = histogram_edges(
                *self.ends, near_low=near[0], near_high=near[1], whole=column.is_whole, times=column.measured == "time"
            )
            if not column.has_value_cells:
                self.deciles = drift_edges([quantiles[share] for share in DECILES], self.ends[0])

    @property
    def wanted(self) -> WantedCells:
        """All cells at once: the histogram's, this profile's own, and the baseline's."""
        if self.column.is_hidden:
            return WantedCells(self.column, [], [])
        before = self.column.baseline or Cells()
        if before.edges and self.column.has_value_cells:
            before = Cells()  # it had another type then
        edges = sorted({*self.histogram, *self.deciles, *before.edges})
        return WantedCells(self.column, edges, list(dict.fromkeys([*self.frequent, *before.values])))

    def profile(self, counted: CountedCells, *, view: str, rows: int, estimated: bool, sampled: bool) -> FeatureProfile:
        column, measures = self.column, self.measures
        values = measures.count("n")
        if column.is_hidden:
            return FeatureProfile(
                view=view, feature=column.name, dtype=str(column.dtype), rows=rows, nulls=rows - values, is_hidden=True,
                distinct=measures.count("d"), distinct_is_approximate=estimated,
            )  # fmt: skip
        wanted = self.wanted
        by_value = dict(zip(wanted.values, counted.values, strict=True))
        tops = sorted(((-by_value[each], each) for each in self.frequent if by_value[each]), key=_by_count)
        quantiles = {f"{share:g}": number for share, number in measures.quantiles.items()}
        not_finite = values - measures.count("x") if column.dtype.is_float else 0
        histogram = None
        if self.ends is not None:
            bins = merged(wanted.edges, counted.bins, self.histogram)
            histogram = Histogram(self.histogram, bins, *self.ends, whole=column.is_whole)
        return FeatureProfile(
            view=view, feature=column.name, dtype=str(column.dtype), rows=rows, nulls=rows - values,
            distinct=measures.count("d"), distinct_is_approximate=estimated, measured=column.measured,
            min=measures.extreme("min"), max=measures.extreme("max"), mean=measures.number("mean"),
            std=measures.number("std"), not_finite=not_finite, quantiles=quantiles,
            quantiles_are_approximate=estimated and bool(quantiles), histogram=histogram,
            top_values=[TopValue(value, -count) for count, value in tops], top_is_approximate=sampled and bool(tops),
            cells=self.counted(counted, self.own_cells, nulls=rows - values, not_finite=not_finite),
            drift=self.drift(counted, nulls=rows - values, not_finite=not_finite),
        )  # fmt: skip

    def drift(self, counted: CountedCells, *, nulls: int, not_finite: int) -> FeatureDrift | None:
        """How far the column moved from its baseline; None without one, or if it had another type then."""
        before = self.column.baseline
        if before is None or bool(before.values if not self.column.has_value_cells else before.edges):
            return None
        now = self.counted(counted, before, nulls=nulls, not_finite=not_finite)
        return drift_of(before.all_counts, now.all_counts, baseline=self.column.baseline_name)

    @property
    def own_cells(self) -> Cells:
        """The cells that a later profile can be compared over."""
        return Cells(values=list(self.frequent)) if self.column.has_value_cells else Cells(edges=self.deciles)

    def counted(self, counted: CountedCells, cells: Cells, *, nulls: int, not_finite: int) -> Cells:
        """These cells with this profile's counts."""
        wanted = self.wanted
        values = self.measures.count("n")
        if self.column.has_value_cells:
            by_value = dict(zip(wanted.values, counted.values, strict=True))
            counts = [by_value[each] for each in cells.values]
            counts.append(values - sum(counts))
        else:
            counts = merged(wanted.edges, counted.bins, cells.edges) if counted.bins else [values - not_finite]
        return Cells(edges=cells.edges, values=cells.values, counts=counts, not_finite=not_finite, nulls=nulls)


def merged(fine: Sequence[float], counts: Sequence[int], edges: Sequence[float]) -> list[int]:
    """The counts of wide bins, of the counts of fine ones.

    Args:
        fine: ascending edges, all of `edges` among them.
        counts: one more than the fine edges.
    """
    if not counts:
        return [0] * (len(edges) + 1)
    result, place = [], 0
    for edge in edges:
        upto = fine.index(edge) + 1
        result.append(sum(counts[place:upto]))
        place = upto
    return [*result, sum(counts[place:])]


__all__ = ["EXACT_ROWS", "SAMPLED_ROWS", "measure", "merged"]
