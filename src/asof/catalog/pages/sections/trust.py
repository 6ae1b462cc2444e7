"""Whether to trust a view's values: its newest profile, its expectations, the dead letters of its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from shlex import quote

from asof.catalog.index import View
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import PageRequest
from asof.lineage import hides_values
from asof.profiles.expectations import ExpectationResult
from asof.profiles.summary import FeatureProfile, ViewProfile
from asof.timing import Micros, moment

_PROFILES = 14
"""How many profiles are read, for the values over time."""


@dataclass(frozen=True)
class ProfilePoint:
    """One of the profiles over time.

    Args:
        middle: the median of the values; None where they have none.
    """

    when: Micros
    null_share: float
    middle: float | None


@dataclass(frozen=True)
class FeatureTrust:
    """What profiles say of one feature.

    Args:
        profile: the newest; None if there is none yet, or its values are hidden.
        over_time: the profiles, oldest first.
        expectations: those of the feature and of the whole view, of the newest profile.
    """

    when: datetime | None
    profile: FeatureProfile | None
    over_time: Sequence[ProfilePoint]
    expectations: Sequence[ExpectationResult]

    @property
    def points(self) -> list[tuple[Micros, float | None]]:
        """The medians over time."""
        return [(each.when, each.middle) for each in self.over_time]


def view_profiles(request: PageRequest, view: View) -> LiveValue[Sequence[ViewProfile]]:
    """The newest profiles of a view, newest first; empty if it was never profiled."""
    return request.live.get(
        ("profiles", view.name), lambda: list(request.store.kept_profiles(view.name, limit=_PROFILES))
    )


def feature_trust(request: PageRequest, view: View, feature: str) -> LiveValue[FeatureTrust]:
    """What the profiles of its view say of a feature."""
    found = view_profiles(request, view)
    if found.value is None:
        return LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
    return LiveValue(_trust(found.value, view, feature), found.age_s, found.is_late)


def profile_command(view: str) -> str:
    """The command that makes a profile of a view."""
    return f"asof profile {quote(view)}"


def _trust(profiles: Sequence[ViewProfile], view: View, feature: str) -> FeatureTrust:
    newest = profiles[0] if profiles else None
    own = [(each.when, found) for each in reversed(profiles) if (found := each.feature(feature)) is not None]
    return FeatureTrust(
        when=None if newest is None else moment(newest.when),
        profile=None if newest is None else newest.feature(feature),
        over_time=[] if hides_values(view, feature) else [
            ProfilePoint(when, each.null_share, each.quantiles.get("0.5")) for when, each in own
        ],
        expectations=[each for each in newest.expectations if each.feature in ("", feature)] if newest else [],
    )  # fmt: skip


__all__ = ["FeatureTrust", "ProfilePoint", "feature_trust", "profile_command", "view_profiles"]
