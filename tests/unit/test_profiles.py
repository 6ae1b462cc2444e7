"""Drift is measured as scipy measures it, and its alarm neither cries wolf nor sleeps; bins hold every value once."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from math import inf, isinf, log, log2, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from asof.profiles import Cells, FeatureProfile, Histogram, TopValue, ViewProfile, drift_of, jensen_shannon, psi, shares
from asof.profiles.bins import MOST_BINS, drift_edges, histogram_edges
from asof.profiles.drift import BINS, LEAST_PSI, alarm_threshold, chi_square_quantile
from asof.timing import DAY, HOUR

SCIPY = [
    ([0.725893525407771, 0.27410647459222903], [0.7108186185940337, 0.28918138140596616], 0.0011234354105800846, 0.014233004266293986),
    ([0.02356994137581339, 0.3391933965611059, 0.5019711671275316, 0.09006607507316357, 0.045199419862385605], [0.17660440193179025, 0.1923542947235463, 0.2057554849398142, 0.040184821230632044, 0.3851009971742172], 1.4241444581890739, 0.47604768329369895),
    ([0.1743586040224106, 0.2451717776563732, 0.0631286699134951, 0.010088231369799952, 0.05331714355497073, 0.06929427286651085, 0.258387394132601, 0.005379870194811437, 0.015709310497387042, 0.1051647257916401], [0.04360212506517003, 0.08556168431333479, 0.14612335505714036, 0.005135806458076455, 0.2179827261682149, 0.0001797397608872536, 0.2640920129343246, 0.11420956310430852, 0.03750196770929538, 0.08561101942924772], 1.4213033677096842, 0.4388638960105067),
]  # fmt: skip
"""Two lists of shares; PSI as the sum of `scipy.special.rel_entr` both ways, and `scipy.spatial.distance.jensenshannon`
with base 2, both computed with scipy 1.17.1."""

CHI_SQUARE = {1: 10.827566170662733, 2: 13.815510557964274, 9: 27.877164871256568, 21: 46.797038041561315}
"""Degrees of freedom → `scipy.stats.chi2.ppf(0.999, …)`."""

counts = st.lists(st.integers(0, 10**6), min_size=2, max_size=20)


@pytest.mark.parametrize(("expected", "actual", "index", "distance"), SCIPY)
def test_psi_and_jensen_shannon_are_those_of_scipy(
    expected: list[float], actual: list[float], index: float, distance: float
) -> None:
    assert psi(expected, actual) == pytest.approx(index, abs=1e-9)
    assert jensen_shannon(expected, actual) == pytest.approx(distance, abs=1e-9)


def test_jensen_shannon_takes_cells_that_one_side_lacks_as_scipy_does() -> None:
    assert jensen_shannon([0.5, 0.5, 0, 0], [0, 0.25, 0.25, 0.5]) == pytest.approx(0.8097154205210412, abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=2, max_size=20))
def test_both_agree_with_their_definitions_over_exact_shares(pairs: list[tuple[int, int]]) -> None:
    before, after = ([Fraction(pair[side], sum(each[side] for each in pairs)) for pair in pairs] for side in (0, 1))
    index = sum(float(a - e) * log(a / e) for e, a in zip(before, after, strict=True))
    middle = [(e + a) / 2 for e, a in zip(before, after, strict=True)]
    divergence = sum(
        float(each) * log2(each / half) / 2 for side in (before, after) for each, half in zip(side, middle, strict=True)
    )

    given_shares = [shares([pair[side] for pair in pairs]) for side in (0, 1)]
    assert psi(*given_shares) == pytest.approx(index, abs=1e-9)
    assert jensen_shannon(*given_shares) == pytest.approx(sqrt(max(divergence, 0)), abs=1e-7)


@given(counts)
def test_a_distribution_has_no_drift_from_itself(before: list[int]) -> None:
    assume(sum(before))
    drift = drift_of(before, before, baseline="previous")

    assert drift is not None and (drift.psi, drift.js, drift.alarm) == (0.0, 0.0, False)


def test_drift_of_no_rows_is_not_known() -> None:
    assert drift_of([0, 0], [1, 2], baseline="previous") is None
    assert drift_of([1, 2], [0, 0], baseline="previous") is None


def test_a_cell_that_one_side_lacks_is_infinite_in_psi_and_finite_in_the_drift_of_counts() -> None:
    assert isinf(psi([1.0, 0.0], [0.5, 0.5]))
    drift = drift_of([1000, 0], [500, 500], baseline="previous")

    assert drift is not None and drift.alarm and drift.psi < 10


def test_nulls_and_unseen_categories_are_drift() -> None:
    before = Cells(values=["a", "b"], counts=[500, 500, 0], nulls=0).all_counts

    for now in (
        Cells(values=["a", "b"], counts=[400, 400, 200], nulls=0),
        Cells(values=["a", "b"], counts=[400, 400, 0], nulls=200),
    ):
        drift = drift_of(before, now.all_counts, baseline="previous")
        assert drift is not None and drift.alarm


@pytest.mark.parametrize("freedom", CHI_SQUARE)
def test_the_quantile_of_chi_square_is_near_the_exact_one_and_never_below(freedom: int) -> None:
    assert 1 <= chi_square_quantile(freedom) / CHI_SQUARE[freedom] <= 1.04


def test_the_threshold_follows_the_number_of_rows_down_to_the_least_psi() -> None:
    few, many = alarm_threshold(10, 100, 100), alarm_threshold(10, 10**6, 10**6)

    assert few == pytest.approx(CHI_SQUARE[9] * 2 / 100, rel=0.01) and many == LEAST_PSI


def cells_of(baseline: np.ndarray, values: np.ndarray) -> tuple[list[int], list[int]]:
    """Both samples over the bins of the baseline's deciles, each with its upper edge."""
    edges = drift_edges([float(each) for each in np.quantile(baseline, np.arange(1, BINS) / BINS)], baseline.min())
    found = []
    for each in (baseline, values):
        places = np.searchsorted(np.asarray(edges), each, side="left")
        found.append([int(count) for count in np.bincount(places, minlength=len(edges) + 1)])
    return found[0], found[1]


def alarms(shift: float, *, resamples: int = 1000, rows: int = 1000) -> int:
    random = np.random.default_rng(20260101)
    found = 0
    for _ in range(resamples):
        baseline, values = random.normal(size=rows), random.normal(size=rows) + shift
        drift = drift_of(*cells_of(baseline, values), baseline="previous")
        found += drift is not None and drift.alarm
    return found


def test_without_drift_at_most_one_in_a_hundred_resamples_raises_an_alarm() -> None:
    assert alarms(0.0) <= 10


def test_a_shift_of_half_a_standard_deviation_raises_an_alarm_in_99_of_100_resamples() -> None:
    assert alarms(0.5) >= 990


def test_without_drift_few_rows_raise_no_alarm_where_a_fixed_limit_would() -> None:
    random = np.random.default_rng(7)
    drifts = [
        drift_of(*cells_of(random.normal(size=100), random.normal(size=100)), baseline="previous") for _ in range(300)
    ]

    assert sum(each.alarm for each in drifts if each) <= 3
    assert sum(each.psi > 0.2 for each in drifts if each) > 60


def test_a_constant_that_becomes_another_is_drift() -> None:
    for other in (4.0, 6.0):
        before, now = cells_of(np.full(1000, 5.0), np.full(1000, other))
        drift = drift_of(before, now, baseline="previous")
        assert drift is not None and drift.alarm and drift.js == pytest.approx(1.0)


@given(
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50),
    st.booleans(),
)
def test_every_value_is_in_one_bin_and_bins_are_few(values: list[float], whole: bool) -> None:
    values = sorted(float(int(each)) if whole else each for each in values)
    near = (values[len(values) // 30], values[-1 - len(values) // 30])
    edges = histogram_edges(values[0], values[-1], near_low=near[0], near_high=near[1], whole=whole)

    assert edges == sorted(set(edges)) and len(edges) + 1 <= MOST_BINS + 2
    assert all(values[0] <= edge < values[-1] for edge in edges)
    places = [bisect_left(edges, each) for each in values]
    assert places == sorted(places) and places[-1] == len(edges)


def test_bins_of_integers_end_before_a_round_number_and_the_tail_is_one_bin() -> None:
    assert histogram_edges(0, 1000, near_low=0, near_high=50, whole=True) == [*range(4, 54, 5)]
    assert histogram_edges(0, 3, near_low=0, near_high=3, whole=True) == [0, 1, 2]
    assert histogram_edges(5, 5, near_low=5, near_high=5) == []


def test_bins_of_times_have_a_round_span() -> None:
    hours = histogram_edges(0, 24 * HOUR, near_low=0, near_high=24 * HOUR, times=True)
    days = histogram_edges(0, 90 * DAY, near_low=0, near_high=90 * DAY, times=True)

    assert hours[1] - hours[0] == 3 * HOUR and days[1] - days[0] == 10 * DAY
    assert all(each % (3 * HOUR) == 0 for each in hours)


def test_a_profile_is_read_back_from_json_and_a_newer_field_is_passed_over() -> None:
    feature = FeatureProfile(
        view="v", feature="f", dtype="Int64", rows=4, nulls=1, distinct=3, measured="value", min=1, max=3,
        quantiles={"0.5": 2.0}, histogram=Histogram([1.0], [1, 2], 1.0, 3.0, whole=True), top_values=[TopValue(2, 1)],
        cells=Cells(edges=[1.0, 2.0], counts=[1, 1, 1], nulls=1),
    )  # fmt: skip
    profile = ViewProfile(view="v", when=5, rows=4, features=[feature])
    content = profile.content()
    content["features"][0]["of_a_newer_asof"] = 1  # type: ignore[index]

    assert ViewProfile.of(content) == profile
    assert feature.to_dict()["null_share"] == 0.25
    assert feature.histogram is not None and feature.histogram.bins == [(1.0, 1.0, 1), (1.0, 3.0, 2)]


def test_numbers_that_are_not_finite_are_no_edges() -> None:
    assert drift_edges([inf, 1.0, float("nan")], 0.0) == [1.0]
