"""Structs and maps of rows that are sent, as JSON text: what Spark makes of them loses nulls and bends NaN."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from asof.connections.duckdb import Evaluator


def with_json_text(rows: pa.RecordBatchReader, evaluator: Evaluator) -> pa.RecordBatchReader:
    """The rows, their structs and maps (also those in lists) as the JSON text that DuckDB's engine makes of them."""
    texts = {place: each.type for place, each in enumerate(rows.schema) if _is_nested(each.type)}
    if not texts:
        return rows
    expressions = {f"c{place}": _sql(f"c{place}", kind) for place, kind in texts.items()}
    schema = rows.schema
    for place, kind in texts.items():
        schema = schema.set(place, schema.field(place).with_type(_text_type(kind)))

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            given = pa.table({f"c{place}": batch.column(place) for place in texts})
            made = evaluator.evaluate(given, expressions)
            columns = list(batch.columns)
            for place in texts:
                columns[place] = made.column(f"c{place}").combine_chunks().cast(schema.field(place).type)
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_nested(kind: pa.DataType) -> bool:
    return _is_nested(kind.value_type) if _is_list(kind) else bool(pa.types.is_struct(kind) or pa.types.is_map(kind))


def _text_type(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_text_type(kind.value_type)) if _is_list(kind) else pa.string()


def _sql(value: str, kind: pa.DataType, depth: int = 0) -> str:
    if not _is_list(kind):
        return f"CAST(to_json({value}) AS VARCHAR)"
    return f"list_transform({value}, lambda e{depth}: {_sql(f'e{depth}', kind.value_type, depth + 1)})"


__all__ = ["with_json_text"]
