"""Which columns a feature's value is made of: exact, from definitions alone."""

from asof.lineage.columns import FeatureColumns, columns_of_feature
from asof.lineage.derived import FeatureInputs, inputs_of_feature
from asof.lineage.pii import hides_column, hides_key, hides_values

__all__ = [
    "FeatureColumns", "FeatureInputs", "columns_of_feature", "hides_column", "hides_key", "hides_values",
    "inputs_of_feature",
]  # fmt: skip
