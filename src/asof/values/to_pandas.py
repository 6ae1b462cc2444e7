"""Arrow tables as data frames of pandas, with no value changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from asof.values.from_arrow import python_values

if TYPE_CHECKING:
    import pandas as pd


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a data frame.

    pandas makes floats of integers beside a null, and so does NumPy inside lists: such integers get pandas' nullable
    types, and lists are Python's own.
    """
    import pandas as pd

    nullable = {
        pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
    }  # fmt: skip
    columns = {}
    for place, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        if pa.types.is_nested(field.type):
            columns[place] = pd.Series(python_values(column), dtype=object)
        elif column.null_count and field.type in nullable:
            columns[place] = column.to_pandas(types_mapper=nullable.get)
        else:
            columns[place] = column.to_pandas()
    frame = pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))
    frame.columns = pd.Index(table.column_names)
    return frame


__all__ = ["pandas_frame"]
