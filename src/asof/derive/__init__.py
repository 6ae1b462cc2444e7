"""On-demand views over an Arrow table or over plain columns: the same code online and offline."""

from asof.derive.calls import DerivationCall, call_of, input_types
from asof.derive.row_wise import RowWiseFinding, check_row_wise
from asof.derive.running import derive, derive_values, run_calls

__all__ = [
    "DerivationCall", "RowWiseFinding", "call_of", "check_row_wise", "derive", "derive_values", "input_types",
    "run_calls",
]  # fmt: skip
