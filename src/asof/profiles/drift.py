"""How far a feature's distribution moved from a baseline: the population stability index, Jensen–Shannon, an alarm.

Both are measured over cells that the baseline fixes: its quantile bins for numbers, times and lengths, its most
frequent values for text and booleans. Nulls, values that are not finite, and values that the baseline did not have are
cells of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log, log2, sqrt
from statistics import NormalDist

import msgspec

from asof.results import Record

BINS = 10
"""How many bins of equal frequency a baseline has."""

SMOOTHING = 0.5
"""Added to each count before PSI, which is infinite where one of two shares is 0."""

LEAST_PSI = 0.1
"""The least PSI that raises an alarm: below it the field speaks of no relevant change, however sure it is."""

CHANCE = 0.001
"""The probability of an alarm where both samples have one distribution."""


class FeatureDrift(Record, msgspec.Struct, frozen=True, kw_only=True):
    """How far a feature moved from a baseline.

    Args:
        baseline: what it was compared with: `previous`, a date, `training-set:NAME` or `served:SERVICE`.
        psi: the population stability index, of counts with `SMOOTHING`.
        js: the Jensen–Shannon distance, 0 (equal) to 1 (nothing in common).
        threshold: the PSI above which there is an alarm, for these numbers of rows.
        rows, baseline_rows: how many rows the two sides have.
    """

    baseline: str
    psi: float
    js: float
    threshold: float
    alarm: bool
    rows: int
    baseline_rows: int


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The population stability index of two lists of shares, one per cell: Σ (a - e) ln(a / e); 0 if they are equal.

    Infinite where exactly one of a cell's two shares is 0.
    """
    total = 0.0
    for before, after in zip(expected, actual, strict=True):
        if before != after:
            total += (after - before) * log(after / before) if before > 0 and after > 0 else inf
    return total


def jensen_shannon(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The Jensen–Shannon distance of two lists of shares: the root of the divergence in bits, 0 to 1."""
    divergence = 0.0
    for before, after in zip(expected, actual, strict=True):
        middle = (before + after) / 2
        divergence += sum(each * log2(each / middle) / 2 for each in (before, after) if each > 0)
    return sqrt(min(max(divergence, 0.0), 1.0))


def shares(counts: Sequence[int], *, smoothing: float = 0.0) -> list[float]:
    """Each cell's share of all rows; all 0 of no rows.

    Args:
        smoothing: added to each count.
    """
    total = sum(counts) + smoothing * len(counts)
    return [(count + smoothing) / total for count in counts] if total else [0.0 for _ in counts]


def alarm_threshold(cells: int, baseline_rows: int, rows: int) -> float:
    """The PSI above which a difference is an alarm.

    Where both samples have one distribution, PSI / (1/n + 1/m) has about a chi-square distribution with one degree of
    freedom less than there are cells. The threshold is its 99.9 % quantile, but at least `LEAST_PSI`: the usual fixed
    limits (0.1, 0.2 or 0.25) raise false alarms on few rows, and chi-square alone raises them on differences of many
    rows that are real and irrelevant.
    """
    if not baseline_rows or not rows or cells < 2:
        return LEAST_PSI
    return max(LEAST_PSI, chi_square_quantile(cells - 1) * (1 / baseline_rows + 1 / rows))


def chi_square_quantile(freedom: int, *, chance: float = CHANCE) -> float:
    """The value that a chi-square variable exceeds with this probability, by the approximation of Wilson and Hilferty.

    It is within 4 % of the exact one.
    """
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(1 - chance) * sqrt(part)) ** 3)


def drift_of(expected: Sequence[int], actual: Sequence[int], *, baseline: str) -> FeatureDrift | None:
    """Compare two lists of counts over the same cells; None where a side has no rows.

    Cells that are empty on both sides say nothing, and are left out.
    """
    pairs = [pair for pair in zip(expected, actual, strict=True) if any(pair)]
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not sum(before) or not sum(after):
        return None
    index = psi(shares(before, smoothing=SMOOTHING), shares(after, smoothing=SMOOTHING))
    threshold = alarm_threshold(len(pairs), sum(before), sum(after))
    return FeatureDrift(
        baseline=baseline, psi=index, js=jensen_shannon(shares(before), shares(after)), threshold=threshold,
        alarm=index > threshold, rows=sum(after), baseline_rows=sum(before),
    )  # fmt: skip


__all__ = [
    "BINS", "CHANCE", "LEAST_PSI", "SMOOTHING", "FeatureDrift", "alarm_threshold", "chi_square_quantile", "drift_of",
    "jensen_shannon", "psi", "shares",
]  # fmt: skip
