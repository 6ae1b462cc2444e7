"""What a feature's values look like: summaries, histograms, and how far two distributions differ; nothing runs here."""

from asof.profiles.drift import FeatureDrift, drift_of, jensen_shannon, psi, shares
from asof.profiles.summary import Cells, FeatureProfile, Histogram, TopValue, ViewProfile

__all__ = [
    "Cells", "FeatureDrift", "FeatureProfile", "Histogram", "TopValue", "ViewProfile", "drift_of",
    "jensen_shannon", "psi", "shares",
]  # fmt: skip
