"""What a feature is made of, exactly, and what is made of what in a whole project: from definitions alone."""

from asof.lineage.branches import LineageBranch, LineageBranches, branches_of
from asof.lineage.columns import FeatureColumns, columns_of_feature, columns_of_view, history_columns_of_view
from asof.lineage.derived import FeatureInputs, inputs_of_feature
from asof.lineage.graph import LineageGraph
from asof.lineage.neighbourhood import LineageEdge, LineageGroup, LineageItem, Neighbourhood
from asof.lineage.nodes import LineageNode
from asof.lineage.pii import hides_column, hides_key, hides_rows, hides_values

__all__ = [
    "FeatureColumns", "FeatureInputs", "LineageBranch", "LineageBranches", "LineageEdge", "LineageGraph",
    "LineageGroup", "LineageItem", "LineageNode", "Neighbourhood", "branches_of", "columns_of_feature",
    "columns_of_view", "hides_column", "hides_key", "hides_rows", "hides_values", "history_columns_of_view",
    "inputs_of_feature",
]  # fmt: skip
