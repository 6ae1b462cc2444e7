"""What every offline store that measures profiles must find: counts, extremes, quantiles, bins, frequent values."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal as Number

import numpy as np
import pyarrow as pa
import pytest

from asof.definitions import Expectation, Field
from asof.dtypes import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    DType,
    Embedding,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)
from asof.errors import UnsupportedByDialect
from asof.offline.protocol import OfflineStore
from asof.profiles.drift import drift_of
from asof.profiles.summary import FeatureProfile, TopValue
from asof.sql.profile import ProfiledColumn, ProfiledRows, ProfiledTable
from asof.sql.query import RowFilter
from asof.testing.history import NOON, Reads, events, view
from asof.timing import HOUR

_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_ODD: dict[str, tuple[DType, list[object]]] = {
    "whole": (Int64, [1, 2, 2, None, 2**63 - 1]),
    "number": (Float64, [1.5, math.nan, math.inf, None, -2.0]),
    "exact": (Decimal(10, 2), [Number("1.25"), Number("-3.50"), None, None, Number("1.25")]),
    "text": (String, ["", "a", "a", None, "ü" * 300]),
    "flag": (Bool, [True, False, None, True, True]),
    "time": (Timestamp, [_DAY, _DAY.replace(day=2), None, datetime(1, 1, 1, tzinfo=UTC), _DAY.replace(day=2)]),
    "day": (Date, [date(2026, 1, 1), None, None, date(2026, 1, 3), date(2026, 1, 3)]),
    "raw": (Bytes, [b"", b"ab", None, b"ab", b"\xff"]),
    "list": (Array(Int64), [[1, 2], [], None, [1, None], [1, 2]]),
    "vector": (Embedding(2), [[1.0, 2.0], [3.0, 4.0], None, [1.0, 2.0], [1.0, 2.0]]),
    "json": (Json, ["{}", '{"a":1}', None, "{}", "[]"]),
    "nothing": (Int32, [None] * 5),
}


class ProfilesOfRows(Reads):
    """Part of `asof.testing.offline.OfflineStoreSuite`."""

    def profile(
        self,
        engine: OfflineStore,
        columns: dict[str, tuple[DType, list[object]]],
        *,
        hidden: str = "",
        before: dict[str, FeatureProfile] | None = None,
    ) -> dict[str, FeatureProfile]:
        """The profile of a table of these columns."""
        table = pa.table({name: pa.array(values, dtype.arrow()) for name, (dtype, values) in columns.items()})
        measured = tuple(
            ProfiledColumn(
                name, dtype, f"f{place}", is_hidden=name == hidden,
                baseline=before[name].cells if before else None, baseline_name="previous",
            )
            for place, (name, (dtype, _)) in enumerate(columns.items())
        )  # fmt: skip
        try:
            found = engine.profile(ProfiledTable("a table", measured), table.to_reader()).features
        except UnsupportedByDialect:
            pytest.skip("this engine measures no profiles")
        return {each.feature: each for each in found}

    def test_a_profile_of_every_type(self, engine: OfflineStore) -> None:
        found = self.profile(engine, _ODD)

        assert {name: (each.rows, each.nulls, each.distinct) for name, each in found.items()} == {
            "whole": (5, 1, 3), "number": (5, 1, 4), "exact": (5, 2, 2), "text": (5, 1, 3), "flag": (5, 1, 2),
            "time": (5, 1, 3), "day": (5, 2, 2), "raw": (5, 1, 3), "list": (5, 1, 3), "vector": (5, 1, 2),
            "json": (5, 1, 3), "nothing": (5, 5, 0),
        }  # fmt: skip
        assert {name: (each.min, each.max) for name, each in found.items() if each.min is not None} == {
            "whole": (1, 2**63 - 1), "number": (-2.0, 1.5), "exact": ("-3.50", "1.25"), "text": ("", "ü" * 200),
            "time": ("0001-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), "day": ("2026-01-01", "2026-01-03"),
        }  # fmt: skip
        assert {name: each.mean for name, each in found.items() if each.mean is not None} == pytest.approx(
            {"whole": (2**63 + 4) / 4, "number": -0.25, "exact": -1 / 3, "text": 75.5, "raw": 1.25, "list": 1.5,
             "vector": 2.0, "json": 3.25}
        )  # fmt: skip
        assert found["number"].not_finite == 2 and found["number"].std == pytest.approx(2.4748737341529163)
        assert found["text"].top_values == [TopValue("a", 2), TopValue("", 1)]
        assert found["flag"].top_values == [TopValue(True, 3), TopValue(False, 1)]
        assert found["whole"].top_values == [TopValue(2, 2), TopValue(1, 1), TopValue(2**63 - 1, 1)]
        assert found["json"].top_values == [TopValue("{}", 2), TopValue("[]", 1), TopValue('{"a":1}', 1)]
        for each in found.values():
            if each.histogram is not None:
                assert sum(each.histogram.counts) == each.rows - each.nulls - each.not_finite, each.feature
            assert each.cells is not None and sum(each.cells.all_counts) == each.rows, each.feature

    def test_a_profile_of_no_rows(self, engine: OfflineStore) -> None:
        found = self.profile(engine, {name: (dtype, []) for name, (dtype, _) in _ODD.items()})

        assert all((each.rows, each.nulls, each.distinct) == (0, 0, 0) for each in found.values())
        assert all(each.histogram is None and not each.top_values and not each.quantiles for each in found.values())

    def test_what_is_hidden_is_only_counted(self, engine: OfflineStore) -> None:
        found = self.profile(engine, _ODD, hidden="text")["text"]

        assert (found.rows, found.nulls, found.distinct, found.is_hidden) == (5, 1, 3, True)
        assert (found.min, found.max, found.mean, found.top_values, found.quantiles) == (None, None, None, [], {})
        assert found.histogram is None and found.cells is None

    def test_quantiles_bins_and_frequent_values_are_exact_up_to_the_limit(self, engine: OfflineStore) -> None:
        random = np.random.default_rng(3)
        numbers = random.gamma(2.0, 10.0, 5000)
        texts = [f"w{int(each)}" for each in random.gamma(1.0, 9.0, 5000)]
        found = self.profile(engine, {"n": (Float64, list(numbers)), "w": (String, list(texts))})
        number, text = found["n"], found["w"]

        assert number.quantiles == pytest.approx(
            {share: float(np.quantile(numbers, float(share))) for share in number.quantiles}
        )
        assert (number.mean, number.std) == pytest.approx((float(numbers.mean()), float(numbers.std(ddof=1))))
        assert number.histogram is not None
        expected = np.searchsorted(np.asarray(number.histogram.edges), numbers, side="left")
        assert number.histogram.counts == np.bincount(expected, minlength=len(number.histogram.edges) + 1).tolist()
        assert number.cells is not None and number.cells.counts == [500] * 10
        frequent = sorted(Counter(texts).items(), key=lambda pair: (-pair[1], pair[0]))[:20]
        assert [(each.value, each.count) for each in text.top_values] == frequent
        assert not (number.quantiles_are_approximate or number.distinct_is_approximate or text.top_is_approximate)

    def test_of_more_rows_counts_stay_exact(self, engine: OfflineStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("asof.sql.measure.EXACT_ROWS", 100)
        numbers: list[object] = [each % 100 for each in range(5000)]
        texts: list[object] = ["often" if each % 2 else "seldom" if each % 5 else "never" for each in range(5000)]
        found = self.profile(engine, {"n": (Int64, numbers), "w": (String, texts)})

        assert (found["n"].min, found["n"].max) == (0, 99) and found["n"].mean == pytest.approx(49.5)
        assert found["n"].quantiles["0.5"] == pytest.approx(49.5, abs=3)
        assert found["w"].top_values == [TopValue("often", 2500), TopValue("seldom", 2000), TopValue("never", 500)]
        assert found["w"].top_is_approximate
        histogram = found["n"].histogram
        assert histogram is not None and sum(histogram.counts) == 5000

    def test_drift_is_measured_over_the_cells_of_the_baseline(self, engine: OfflineStore) -> None:
        random = np.random.default_rng(11)
        old: list[object] = [*random.normal(size=900), *[None] * 60, *[math.nan] * 40]
        shifted = random.normal(size=700) + 1
        new: list[object] = [*shifted, *[None] * 200, *[math.inf] * 100]
        names: list[object] = [*["a"] * 500, *["b"] * 500]
        others: list[object] = [*["a"] * 400, *["b"] * 300, *["unseen"] * 200, *[None] * 100]
        before = self.profile(engine, {"n": (Float64, old), "w": (String, names)})
        after = self.profile(engine, {"n": (Float64, new), "w": (String, others)}, before=before)

        cells = before["n"].cells
        assert cells is not None
        positions = np.searchsorted(np.asarray(cells.edges), shifted, side="left")
        bins = np.bincount(positions, minlength=len(cells.edges) + 1).tolist()
        assert after["n"].drift == drift_of(cells.all_counts, [*bins, 100, 200], baseline="previous")
        expected = drift_of([500, 500, 0, 0, 0], [400, 300, 200, 0, 100], baseline="previous")
        assert after["w"].drift == expected and expected is not None and expected.alarm

    def test_a_profile_of_a_views_rows_takes_those_of_the_interval(self, engine: OfflineStore) -> None:
        latest = view(Field("value", Int64))
        rows = events((1, NOON, 7), (1, NOON + HOUR, 8), (2, NOON + 2 * HOUR, 9), (2, NOON + 3 * HOUR, 10))
        columns = (ProfiledColumn("value", Int64, "f0"),)
        query = ProfiledRows(latest, RowFilter(NOON + 3 * HOUR - 1, NOON + HOUR), columns)
        try:
            found = engine.profile(query, rows)
        except UnsupportedByDialect:
            pytest.skip("this engine measures no profiles")

        assert [(each.view, each.feature, each.rows, each.min, each.max) for each in found.features] == [
            (latest.name, "value", 2, 8, 9)
        ]
        assert (found.rows, found.newest) == (2, NOON + 2 * HOUR)

    def test_rows_that_miss_an_expectation_are_counted(self, engine: OfflineStore) -> None:
        of = Expectation
        cases: dict[str, tuple[list[Expectation], list[int]]] = {
            "whole": ([of.not_null("whole"), of.between("whole", 2, 3), of.unique("whole")], [1, 2, 1]),
            "number": ([of.between("number", high=1)], [3]),
            "exact": ([of.between("exact", "-3.5", "1.24"), of.accepted_values("exact", ["1.25"])], [2, 1]),
            "text": ([of.accepted_values("text", ["", "a"]), of.unique("text")], [1, 1]),
            "flag": ([of.accepted_values("flag", [True]), of.not_null("flag")], [1, 1]),
            "time": ([of.between("time", "2026-01-01T00:00:00Z", "2026-01-01T23:00:00Z")], [3]),
            "day": ([of.between("day", low=date(2026, 1, 2)), of.unique("day")], [1, 1]),
            "raw": ([of.unique("raw")], [1]),
            "nothing": ([of.not_null("nothing"), of.unique("nothing")], [5, 0]),
        }
        table = pa.table({name: pa.array(values, dtype.arrow()) for name, (dtype, values) in _ODD.items()})
        columns = tuple(
            ProfiledColumn(name, dtype, f"f{place}", is_hidden=True, expectations=tuple(cases.get(name, ([], []))[0]))
            for place, (name, (dtype, _)) in enumerate(_ODD.items())
        )
        try:
            found = engine.profile(ProfiledTable("a table", columns), table.to_reader())
        except UnsupportedByDialect:
            pytest.skip("this engine measures no profiles")

        assert found.misses == {name: counts for name, (_, counts) in cases.items()}


__all__ = ["ProfilesOfRows"]
