"""Measure how fast messages of each format become typed columns, against reading them one by one with the bare library.

Run `python -m benchmarks.bench_messages`; it prints thousands of messages per second, and the ratio, line by line.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from google.protobuf.duration_pb2 import Duration

from asof.decoding import MessageBatch, decode_messages
from asof.definitions import AvroFormat, Field, JsonFormat, LogSource, MessageFormat, ProtoFormat
from asof.dtypes import Int64, String, Timestamp
from asof.timing import Micros, micros

NOW: Micros = micros("2026-11-23T12:00:00Z")
SCHEMA = {
    "type": "record", "name": "Click", "fields": [
        {"name": "user_id", "type": "long"}, {"name": "page", "type": ["null", "string"], "default": None},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}  # fmt: skip
DURATION = "google.protobuf.duration_pb2.Duration"


def main(argv: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="bench_messages")
    parser.add_argument("--quick", action="store_true")
    options, _ = parser.parse_known_args(argv)
    count, runs = (5_000, 1) if options.quick else (100_000, 5)
    records = [{"user_id": i, "page": f"page-{i % 7}", "ts": NOW // 1000} for i in range(count)]
    parsed = parse_schema(json.loads(json.dumps(SCHEMA)))
    avro = [_avro(parsed, record) for record in records]
    clicks = [Field("user_id", Int64), Field("page", String), Field("ts", Timestamp)]
    numbers = [*clicks[:2], Field("ts", Int64)]
    spans = [Field("seconds", Int64), Field("nanos", Int64)]
    bad = [b"no record" if i % 100 == 0 else message for i, message in enumerate(avro)]

    def one_by_one() -> None:
        for each in avro:
            schemaless_reader(io.BytesIO(each), parsed, None)

    protobuf = [Duration(seconds=i, nanos=7).SerializeToString() for i in range(count)]
    texts = [json.dumps(record).encode() for record in records]
    plain = msgspec.json.Decoder().decode
    baseline = {
        "avro": one_by_one, "protobuf": lambda: [Duration.FromString(each) for each in protobuf],
        "json": lambda: [plain(each) for each in texts],
    }  # fmt: skip
    _report("avro", count, runs, baseline["avro"], _decoded(AvroFormat(json.dumps(SCHEMA)), clicks, avro))
    _report("avro, 1 % bad", count, runs, baseline["avro"], _decoded(AvroFormat(json.dumps(SCHEMA)), clicks, bad))
    _report("protobuf", count, runs, baseline["protobuf"], _decoded(ProtoFormat(DURATION), spans, protobuf, "seconds"))
    _report("json", count, runs, baseline["json"], _decoded(JsonFormat(), numbers, texts))


def _avro(schema: dict, record: dict) -> bytes:
    stream = io.BytesIO()
    schemaless_writer(stream, schema, record)
    return stream.getvalue()


def _decoded(
    message_format: MessageFormat, fields: list[Field], messages: list[bytes], time_field: str = "ts"
) -> Callable[[], object]:
    unit = "s" if time_field == "seconds" else "ms"
    source = LogSource(
        "clicks", schema=fields, timestamp_field=time_field, timestamp_unit=unit, message_format=message_format
    )
    return lambda: decode_messages(source, MessageBatch(messages), keys=[fields[0].name], clock=NOW)


def _report(name: str, count: int, runs: int, baseline: Callable[[], object], ours: Callable[[], object]) -> None:
    """Interleaved runs, the best of each."""
    best = [float("inf"), float("inf")]
    for _ in range(runs):
        for place, work in enumerate((baseline, ours)):
            began = time.perf_counter()
            work()
            best[place] = min(best[place], time.perf_counter() - began)
    rates = [count / each / 1000 for each in best]
    print(
        f"{name:16} {rates[1]:7.0f} k/s into typed columns, {rates[0]:7.0f} k/s one by one into objects: "
        f"{best[0] / best[1]:.2f}×", flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
