"""Use of features: how often each was served, and how many training sets were saved with it, per day."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from asof.defaults import USE_DAYS
from asof.errors import Argument, AsofError, RequestError
from asof.flows.stores import Stores
from asof.registry.records import KEPT_COUNT_DAYS
from asof.results import Record, Records
from asof.selection import Selection
from asof.timing import moment

log = logging.getLogger("asof.records")

SERVED, SAVED = "served", "saved"
"""Kinds of counts: requests that were served a feature, and training sets that were saved with it."""


@dataclass(frozen=True)
class FeatureUse(Record):
    """The use of one feature on one day.

    Args:
        feature: `view:feature`.
        day: in UTC.
        requests: number of requests to servers that it was served for, each once, however many rows it had.
        training_sets: number of training sets that were saved with it.
    """

    feature: str
    day: date
    requests: int
    training_sets: int


def count_served(stores: Stores, counts: Mapping[str, int]) -> None:
    """Add requests to the counts of today: feature → number.

    Raises:
        RegistryError: they could not be kept.
    """
    if counts:
        stores.registry.add_counts(stores.project, SERVED, moment(stores.clock()).date(), counts)


def count_training_set(stores: Stores, selection: Selection) -> None:
    """Count a saved training set for each of its features. Where that fails, a warning is logged: the set is saved."""
    counts = dict.fromkeys(selection.features_used, 1)
    try:
        stores.registry.add_counts(stores.project, SAVED, moment(stores.clock()).date(), counts)
    except AsofError as error:
        log.warning("the use of features in a training set was not counted: %s", error.message)


def feature_use(stores: Stores, days: int = USE_DAYS) -> Records[FeatureUse]:
    """The use of each feature on each of the last days, the newest day first; days without use are left out.

    Args:
        days: today and the days before it, up to as many as are kept.

    Raises:
        RequestError: it is not a number of days.
    """
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= KEPT_COUNT_DAYS:
        wrong = Argument("days", days)
        raise RequestError(
            f"{wrong} is no number of days that are kept",
            hint=f"give a whole number from 1 to {KEPT_COUNT_DAYS}", arguments=[wrong],
        )  # fmt: skip
    since = moment(stores.clock()).date() - timedelta(days=days - 1)
    served = stores.registry.counts(stores.project, SERVED, since=since)
    saved = stores.registry.counts(stores.project, SAVED, since=since)
    found = [
        FeatureUse(feature, day, served.get(day, {}).get(feature, 0), saved.get(day, {}).get(feature, 0))
        for day in sorted({*served, *saved}, reverse=True)
        for feature in sorted({*served.get(day, ()), *saved.get(day, ())})
    ]
    return Records(FeatureUse, found)


@dataclass(frozen=True)
class UseSums:
    """The use of one feature over some days.

    Args:
        requests_by_day: of each day, the oldest first and today last; empty where no request was counted.
    """

    requests: int = 0
    training_sets: int = 0
    requests_by_day: tuple[int, ...] = ()


def summed_use(stores: Stores, days: int = USE_DAYS) -> dict[str, UseSums]:
    """The use of each feature, `view:feature`, over the last days; features without any are left out."""
    since = moment(stores.clock()).date() - timedelta(days=days - 1)
    saved: Counter[str] = Counter()
    for counts in stores.registry.counts(stores.project, SAVED, since=since).values():
        saved.update(counts)
    served: dict[str, list[int]] = {}
    for day, counts in stores.registry.counts(stores.project, SERVED, since=since).items():
        place = (day - since).days
        # A count of tomorrow comes from a server whose clock is ahead.
        for feature, count in counts.items() if place < days else ():
            served.setdefault(feature, [0] * days)[place] = count
    return {
        feature: UseSums(sum(served.get(feature, ())), saved[feature], tuple(served.get(feature, ())))
        for feature in {*served, *saved}
    }


__all__ = ["FeatureUse", "count_served", "count_training_set", "UseSums", "feature_use", "summed_use"]
