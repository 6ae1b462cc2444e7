"""Which columns a feature's value is made of, and which values are personal data: from definitions alone."""

from asof.lineage.columns import FeatureColumns, columns_of_feature
from asof.lineage.derived import FeatureInputs, inputs_of_feature
from asof.lineage.pii import is_pii, is_pii_column, is_pii_key

__all__ = [
    "FeatureColumns", "FeatureInputs", "columns_of_feature", "inputs_of_feature", "is_pii", "is_pii_column",
    "is_pii_key",
]  # fmt: skip
