"""The summary of a feature's values, and of a view's features at one moment; JSON-ready, and read back from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from asof.profiles.drift import FeatureDrift
from asof.profiles.expectations import ExpectationResult
from asof.results import Record
from asof.timing import Micros, iso

Scalar = str | int | float | bool
"""A value as JSON has it: a decimal and a time are text."""

Measured = Literal["value", "length", "time", "none"]
"""What quantiles and histogram are of: the value itself, its length (characters, bytes, elements), microseconds."""


class TopValue(Record, msgspec.Struct, frozen=True):
    """A frequent value, and how many rows have it."""

    value: Scalar
    count: int


class Histogram(msgspec.Struct, frozen=True):
    """How many values lie in each bin: n + 1 counts around n edges, each the greatest value of the bin before it.

    Args:
        low, high: the ends of the first and the last bin: the least and the greatest value.
        whole: the values are integers.
    """

    edges: list[float]
    counts: list[int]
    low: float
    high: float
    whole: bool = False

    @property
    def bins(self) -> list[tuple[float, float, int]]:
        """(low, high, count) of each bin; the values of all but the first are greater than its low."""
        ends = [self.low, *self.edges, self.high]
        return list(zip(ends[:-1], ends[1:], self.counts, strict=True))


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over cells that another profile can be counted over too: what drift is measured with.

    Args:
        edges: of numbers, the upper edges of all bins but the last: n edges, n + 1 counts.
        values: of text and booleans, the frequent ones: n values, n + 1 counts, the last of all others.
        not_finite, nulls: counts of cells of their own.
    """

    edges: list[float] = []
    values: list[Scalar] = []
    counts: list[int] = []
    not_finite: int = 0
    nulls: int = 0

    @property
    def all_counts(self) -> list[int]:
        """The counts of all cells, those of their own last."""
        return [*self.counts, self.not_finite, self.nulls]


class FeatureProfile(Record, msgspec.Struct, frozen=True, kw_only=True):
    """The summary of one feature's values.

    Args:
        dtype: as text.
        distinct: how many different values there are; None where that is not counted.
        distinct_is_approximate, quantiles_are_approximate: estimated, as the rows are many.
        top_is_approximate: the values were chosen by a sample; their counts are exact.
        measured: what min, max, mean, std, quantiles and the histogram are of; of lengths min and max are the value's.
        min, max: the least and the greatest value; text by code point, at most its first 200 characters.
        mean, std: of finite values; None where they make no sense.
        not_finite: how many values are NaN or infinite; they are in no other figure.
        quantiles: share → number; times in microseconds.
        cells: what a later profile is compared by; None where hidden.
        is_hidden: the feature is tagged `pii`: there are counts only.
        drift: against the baseline that was asked for.
    """

    view: str
    feature: str
    dtype: str
    rows: int
    nulls: int
    distinct: int | None = None
    distinct_is_approximate: bool = False
    measured: Measured = "none"
    min: Scalar | None = None
    max: Scalar | None = None
    mean: float | None = None
    std: float | None = None
    not_finite: int = 0
    quantiles: dict[str, float] = {}
    quantiles_are_approximate: bool = False
    histogram: Histogram | None = None
    top_values: list[TopValue] = []
    top_is_approximate: bool = False
    cells: Cells | None = None
    is_hidden: bool = False
    drift: FeatureDrift | None = None

    @property
    def null_share(self) -> float:
        """The share of rows without a value; 0 of no rows."""
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def reference(self) -> str:
        """`view:feature`."""
        return f"{self.view}:{self.feature}"

    def without_values(self) -> FeatureProfile:
        """The counts alone, as of a feature with personal data."""
        return FeatureProfile(
            view=self.view, feature=self.feature, dtype=self.dtype, rows=self.rows, nulls=self.nulls,
            distinct=self.distinct, distinct_is_approximate=self.distinct_is_approximate, is_hidden=True,
        )  # fmt: skip

    def shown(self, number: float) -> str:
        """A number of its quantiles or its histogram, for people."""
        return iso(int(number)) if self.measured == "time" else f"{number:.6g}"

    def to_dict(self) -> dict[str, object]:
        """Column → value, ready for JSON."""
        content: dict[str, object] = msgspec.to_builtins(self)
        return {**content, "null_share": self.null_share}


class MeasuredRows(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine measured of the rows of a view or a table.

    Args:
        newest: the greatest event time; None of no rows, and of a table.
        misses: feature → how many rows miss each of its expectations, in their order.
    """

    rows: int
    newest: Micros | None = None
    features: list[FeatureProfile] = []
    misses: dict[str, list[int]] = {}


class ViewProfile(Record, msgspec.Struct, frozen=True, kw_only=True):
    """The profile of a view at a moment: which rows, each feature, and each expectation.

    Args:
        when: the store's time of the profile.
        rows: how many rows were read.
        newest: the greatest event time of the source's rows in that time; None where there are none.
        start, end: the event times that were read, `[start, end)`; None without an end.
        sampled: how many moments of the source's rows an aggregated view was read as of; None: all rows were read.
        features: in the view's order.
        expectations: what the view's expectations found; empty where it has none.
    """

    view: str
    when: Micros
    rows: int
    newest: Micros | None = None
    start: Micros | None = None
    end: Micros | None = None
    sampled: int | None = None
    features: list[FeatureProfile] = []
    expectations: list[ExpectationResult] = []

    def feature(self, name: str) -> FeatureProfile | None:
        """The profile of one feature; None if it has none."""
        return next((each for each in self.features if each.feature == name), None)

    @property
    def failed(self) -> Sequence[ExpectationResult]:
        """The expectations that do not hold."""
        return [each for each in self.expectations if not each.ok]

    def to_dict(self) -> dict[str, object]:
        """Column → value, ready for JSON."""
        return {**self.content(), "features": [each.to_dict() for each in self.features]}

    def content(self) -> dict[str, object]:
        """The profile as it is kept in a record of the registry."""
        content: dict[str, object] = msgspec.to_builtins(self)
        return content

    @classmethod
    def of(cls, content: Mapping[str, object]) -> ViewProfile:
        """The profile that `content()` wrote; fields of a newer Asof are passed over.

        Raises:
            msgspec.ValidationError: a field has another type than it was written with.
        """
        return msgspec.convert(content, cls)


__all__ = ["Cells", "FeatureProfile", "Histogram", "Measured", "MeasuredRows", "Scalar", "TopValue", "ViewProfile"]
