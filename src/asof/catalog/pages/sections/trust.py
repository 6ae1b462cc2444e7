"""Whether to trust a view's values: its newest profile, its expectations, the dead letters of its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from shlex import quote

from asof.catalog.index import View
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import PageRequest
from asof.catalog.pages.sections.series import Series, distributions, null_shares
from asof.catalog.urls import page_url
from asof.lineage import hides_values
from asof.profiles.expectations import ExpectationResult
from asof.profiles.summary import FeatureProfile, ViewProfile
from asof.timing import Micros, moment

_PROFILES = 14
"""How many profiles are read, for the values over time."""


@dataclass(frozen=True)
class FeatureTrust:
    """What profiles say of one feature.

    Args:
        profile: the newest; None if there is none yet, or its values are hidden.
        over_time: nulls and distribution of the kept profiles, as far as there are some; of hidden values only nulls.
        expectations: those of the feature and of the whole view, as they were checked last.
    """

    when: datetime | None
    profile: FeatureProfile | None
    over_time: Sequence[Series]
    expectations: Sequence[ExpectationResult]


@dataclass(frozen=True)
class ProfiledFeature:
    """A feature of a view in a profile.

    Args:
        profile: None if the newest profile does not have it.
        medians: of the kept profiles, the oldest first; empty of hidden values, and of fewer than two profiles.
    """

    name: str
    url: str
    profile: FeatureProfile | None
    medians: Sequence[float | None]


@dataclass(frozen=True)
class ProfiledView:
    """What profiles say of a view.

    Args:
        when, rows: of the newest; None and 0 if there is none yet.
        sampled: how many moments an aggregated view was read as of; None: all rows were read.
        expectations: what they found when they were checked last.
    """

    when: datetime | None
    rows: int
    sampled: int | None
    features: Sequence[ProfiledFeature]
    expectations: Sequence[ExpectationResult]


@dataclass(frozen=True)
class _KeptProfiles:
    """What the registry keeps of a view: its newest profiles, newest first, and what its expectations found last."""

    profiles: Sequence[ViewProfile]
    results: Sequence[ExpectationResult]


def _kept(request: PageRequest, view: View) -> LiveValue[_KeptProfiles]:
    def fetched() -> _KeptProfiles:
        # A check alone keeps newer results than the newest profile has.
        results = list(request.store.kept_expectations(view.name)) if view.expectations else []
        return _KeptProfiles(list(request.store.kept_profiles(view.name, limit=_PROFILES)), results)

    return request.live.get(("profiles", view.name), fetched)


def feature_trust(request: PageRequest, view: View, feature: str) -> LiveValue[FeatureTrust]:
    """What the profiles of its view say of a feature."""
    found = _kept(request, view)
    if found.value is None:
        return LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
    return LiveValue(_trust(found.value, view, feature), found.age_s, found.is_late)


def view_trust(request: PageRequest, view: View) -> LiveValue[ProfiledView]:
    """What the newest profile of a view says of each of its features."""
    found = _kept(request, view)
    if found.value is None:
        return LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
    profiles = found.value.profiles
    newest = profiles[0] if profiles else None
    features = []
    for name in view.feature_names:
        own = _of_feature(profiles, name)
        medians = [each.quantiles.get("0.5") for _, each in own]
        is_shown = len(own) > 1 and not hides_values(view, name) and own[-1][1].measured in ("value", "length")
        features.append(
            ProfiledFeature(
                name, page_url("feature", view.name, name), newest.feature(name) if newest is not None else None,
                medians if is_shown else (),
            )
        )  # fmt: skip
    trust = ProfiledView(
        None if newest is None else moment(newest.when), newest.rows if newest is not None else 0,
        newest.sampled if newest is not None else None, features, found.value.results,
    )  # fmt: skip
    return LiveValue(trust, found.age_s, found.is_late)


def profile_command(view: str) -> str:
    """The command that makes a profile of a view."""
    return f"asof profile {quote(view)}"


def _trust(kept: _KeptProfiles, view: View, feature: str) -> FeatureTrust:
    profiles = kept.profiles
    newest = profiles[0] if profiles else None
    own = _of_feature(profiles, feature)
    series = [null_shares(own), None if hides_values(view, feature) else distributions(own)]
    return FeatureTrust(
        when=None if newest is None else moment(newest.when),
        profile=None if newest is None else newest.feature(feature),
        over_time=[each for each in series if each is not None],
        expectations=[each for each in kept.results if each.feature in ("", feature)],
    )  # fmt: skip


def _of_feature(profiles: Sequence[ViewProfile], feature: str) -> list[tuple[Micros, FeatureProfile]]:
    """The profiles of one feature, the oldest first; of several of one moment, as a clock that stands still makes them,
    the newest."""
    found = {each.when: own for each in reversed(profiles) if (own := each.feature(feature)) is not None}
    return sorted(found.items(), key=itemgetter(0))


__all__ = [
    "FeatureTrust", "ProfiledFeature", "ProfiledView", "feature_trust", "profile_command", "view_trust",
]  # fmt: skip
