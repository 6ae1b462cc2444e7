"""Which columns a feature's value is made of: exact, from definitions alone."""

from asof.lineage.columns import FeatureColumns, columns_of_feature
from asof.lineage.derived import FeatureInputs, inputs_of_feature

__all__ = ["FeatureColumns", "FeatureInputs", "columns_of_feature", "inputs_of_feature"]
