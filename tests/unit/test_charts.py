"""Charts of features fit the terminal, count every value, and are the same as text and as a picture."""

from __future__ import annotations

import pytest

from asof.profiles import FeatureProfile, Histogram, TopValue
from asof.profiles.charts import chart_lines, chart_of, charts_text
from asof.timing import HOUR, micros


def profile(**values: object) -> FeatureProfile:
    given = {"view": "v", "feature": "f", "dtype": "Int64", "rows": 10, "nulls": 2, "measured": "value", **values}
    return FeatureProfile(**given)  # type: ignore[arg-type]


NUMBERS = profile(
    min=1, max=30, mean=8.0, distinct=5, quantiles={"0.5": 6.0},
    histogram=Histogram([5.0, 10.0], [3, 4, 1], 1.0, 30.0, whole=True),
)  # fmt: skip


def labels(each: FeatureProfile) -> list[tuple[str, int]]:
    chart = chart_of(each)
    assert chart is not None
    return [(bar.label, bar.count) for bar in chart.bars]


def test_bins_of_integers_have_their_first_and_last_value() -> None:
    assert labels(NUMBERS) == [("1-5", 3), ("6-10", 4), ("11-30", 1)]


def test_bins_of_floats_have_their_ends() -> None:
    floats = profile(dtype="Float64", histogram=Histogram([0.5], [3, 5], -1.0, 2.25))

    assert labels(floats) == [("-1 – 0.5", 3), ("0.5 – 2.25", 5)]


def test_bins_of_times_have_their_start() -> None:
    start = micros("2026-01-01T00:00:00Z")
    times = profile(
        dtype="Timestamp", measured="time", min="2026-01-01T00:00:00Z", max="2026-01-01T02:00:00Z",
        histogram=Histogram([float(start + HOUR)], [3, 5], float(start), float(start + 2 * HOUR)),
    )  # fmt: skip

    assert labels(times) == [("2026-01-01 00:00:00", 3), ("2026-01-01 01:00:00", 5)]


def test_text_has_a_bar_per_frequent_value_and_one_for_all_others() -> None:
    text = profile(dtype="String", measured="length", top_values=[TopValue("a\n" * 30, 4), TopValue("", 1)])

    assert labels(text) == [("a\N{REPLACEMENT CHARACTER}" * 11 + "a…", 4), ("(empty)", 1), ("all others", 3)]
    flags = profile(dtype="Bool", measured="none", top_values=[TopValue(True, 8)])
    assert labels(flags) == [("true", 8)]


def test_what_is_hidden_or_has_no_values_has_no_chart() -> None:
    assert chart_of(profile(is_hidden=True)) is None
    assert chart_of(profile(rows=2, nulls=2)) is None


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_chart_fits_its_width_and_says_counts_and_shares(width: int) -> None:
    chart = chart_of(NUMBERS)
    assert chart is not None
    lines = chart_lines(chart, width)

    assert max(map(len, lines)) <= width
    assert lines[0] == "v:f" and lines[1].startswith("10 rows · 20.0% null · 5 distinct")
    assert lines[3].endswith("4   50.0%") and lines[4].endswith("1   12.5%")
    assert charts_text([chart], width) == "\n".join(lines)


def test_marks_lie_in_their_bins() -> None:
    chart = chart_of(NUMBERS)
    assert chart is not None

    assert [(mark.word, mark.text) for mark in chart.marks] == [("mean", "mean 8"), ("median", "median 6")]
    assert [mark.position for mark in chart.marks] == pytest.approx([1.1, 0.7])
