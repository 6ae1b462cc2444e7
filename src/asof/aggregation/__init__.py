"""The online state of aggregated views: packed rows; folding events into them, merging and reading them."""

from asof.aggregation.answer import ROWS_AT_ONCE, answer
from asof.aggregation.answer_scalar import answer_few
from asof.aggregation.answer_vector import VectorAggregates, finish
from asof.aggregation.fold import Events, FoldCounts, fold, merge, with_offsets
from asof.aggregation.layout import RowLayout
from asof.aggregation.rows import MAX_ROW_BYTES, NEVER, StateRows, decode, encode

__all__ = [
    "MAX_ROW_BYTES",
    "NEVER",
    "ROWS_AT_ONCE",
    "Events",
    "FoldCounts",
    "RowLayout",
    "StateRows",
    "VectorAggregates",
    "answer",
    "answer_few",
    "decode",
    "encode",
    "finish",
    "fold",
    "merge",
    "with_offsets",
]
