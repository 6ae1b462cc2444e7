"""Which bins a histogram has: of a round width, few enough to be looked at, with a long tail in open bins."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, inf, isfinite, nextafter

from asof.timing import DAY, HOUR, MINUTE, SECOND

MOST_BINS = 13
TAIL_SHARE = 0.03
"""At most about this share of the values lies in an open bin, so that a long tail does not squeeze the others."""


def round_width(reach: float, bins: int, *, whole: bool = False) -> float:
    """The least width of 1, 2 or 5 times a power of ten of which so many bins span the reach.

    Args:
        whole: at least 1.
    """
    if reach <= 0 or not isfinite(reach):
        return 1.0
    exponent = 0 if whole else -330
    needed = reach / bins
    power = max(_exponent(needed), exponent)
    for scale in (10.0**power, 10.0 ** (power + 1)):
        for size in (1, 2, 5):
            if size * scale >= needed * (1 - 1e-12):
                return size * scale
    return 10.0 ** (power + 2)


def round_span(reach: float, bins: int) -> float:
    """The same for times in microseconds: a round number of seconds, minutes, hours or days."""
    for unit, sizes in ((SECOND, (1, 2, 5, 10, 15, 30)), (MINUTE, (1, 2, 5, 10, 15, 30)), (HOUR, (1, 2, 3, 6, 12))):
        for size in sizes:
            if unit * size * bins >= reach > SECOND * bins / 2:
                return float(unit * size)
    return round_width(reach / DAY, bins, whole=True) * DAY if reach > HOUR else round_width(reach, bins, whole=True)


def histogram_edges(
    low: float, high: float, *, near_low: float, near_high: float, whole: bool = False, times: bool = False
) -> list[float]:
    """The edges between the bins of a histogram, ascending: n + 1 bins, each with its upper edge.

    Args:
        low, high: the least and greatest value.
        near_low, near_high: the quantiles beyond which values are the tail.
        whole: the values are integers, so that an edge is the last value of its bin.
        times: the values are microseconds.
    """
    if low >= high:
        return []
    near_low, near_high = (near_low, near_high) if near_low < near_high else (low, high)
    if whole and high - low < MOST_BINS:
        return [low + place for place in range(int(high - low))]
    # A tail that fits into the bins is no tail.
    reach = near_high - near_low
    width = round_span(reach, MOST_BINS - 2) if times else round_width(reach, MOST_BINS - 2, whole=whole)
    if high - low <= width * (MOST_BINS - 1):
        near_low, near_high = low, high
    first = floor(near_low / width)
    last = ceil(near_high / width)
    edges = [place * width - (1 if whole else 0) for place in range(first, last + 1)]
    # The first bin includes the least value in any case: an edge there would make a bin of that value alone.
    edges = [edge for edge in edges if low <= edge < high and (whole or edge != low)]
    return _distinct(edges[: MOST_BINS + 1])


def drift_edges(quantiles: Sequence[float], low: float) -> list[float]:
    """Ascending quantiles as edges of the bins that drift is measured over.

    Many values may be one: then quantiles are equal, and bins fewer. Where the least value is so frequent, values below
    it have a bin of their own, and likewise above: else a constant that becomes another would be no drift.

    Args:
        low: the least value.
    """
    edges = _distinct(sorted(each for each in quantiles if isfinite(each)))
    return [nextafter(low, -inf), *edges] if edges and edges[0] <= low else edges


def _distinct(edges: Sequence[float]) -> list[float]:
    return list(dict.fromkeys(edges))


def _exponent(number: float) -> int:
    power = 0
    while 10.0**power > number and power > -320:
        power -= 1
    while power < 308 and 10.0 ** (power + 1) <= number:
        power += 1
    return power


__all__ = ["MOST_BINS", "TAIL_SHARE", "drift_edges", "histogram_edges", "round_span", "round_width"]
