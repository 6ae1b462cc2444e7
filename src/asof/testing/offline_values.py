"""What every offline store must return for values: sums, infinities, declared types."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from fractions import Fraction

import pyarrow as pa
import pytest

from asof.definitions import (
    Aggregation,
    Field,
    FileSource,
    Session,
    Sliding,
)
from asof.dtypes import Array, Date, Decimal, Float32, Float64, Int32, Int64, Timestamp
from asof.errors import SourceError
from asof.offline.protocol import OfflineStore
from asof.sql.query import PointInTime
from asof.testing.history import NOON, US, Reads, events, reads, spine, view
from asof.timing import SECOND


class ReadsOfValues(Reads):
    """Part of `asof.testing.offline.OfflineStoreSuite`."""

    def test_integer_sums_are_exact_and_null_outside_int64(self, engine: OfflineStore) -> None:
        total = view(Field("value", Int64), aggregations=[Aggregation("value", "sum", name="s")])
        rows = events((1, NOON, 2**63 - 1), (1, NOON + 1, 1), (1, NOON + 2, -1), (2, NOON, 2**53), (2, NOON, 1))

        answer = self.ask(engine, total, rows, spine((1, NOON), (1, NOON + 1), (1, NOON + 2), (2, NOON)))

        assert answer == [(2**63 - 1,), (None,), (2**63 - 1,), (2**53 + 1,)]

    @pytest.mark.parametrize("window", [None, Sliding("1h"), Session("1h")])
    @pytest.mark.parametrize("known_at", [False, True])
    @pytest.mark.parametrize(
        ("precision", "scale", "values", "total"),
        [
            (5, 2, ["999.99", "100.01"], "1100.00"), (5, 2, ["-999.99", "-0.02"], "-1000.01"),
            (1, 0, ["9"] * 12, "108"), (3, 3, ["0.999", "0.002"], "1.001"), (18, 0, ["9" * 18, "1"], "1" + "0" * 18),
            (28, 9, ["9" * 19 + ".5"] * 2, "1" + "9" * 19), (29, 0, ["9" * 29, "-1"], "9" * 28 + "8"),
            (38, 9, ["1.5", "-0.000000001", "-2"], "-0.500000001"), (38, 38, ["0.1", "-0.3"], "-0.2"),
            (38, 2, ["9e35", "9e35"], None), (38, 0, ["-" + "9" * 38, "-1"], None), (38, 38, ["0.9", "0.2"], None),
            (38, 2, ["9e35", "9e35", "-9e35"], "9e35"), (38, 0, ["9" * 38] * 9 + ["-" + "9" * 38] * 8, "9" * 38),
        ],
    )  # fmt: skip
    def test_decimal_sums_are_exact_and_null_beyond_38_digits(
        self, engine: OfflineStore, window: Sliding | Session | None, known_at: bool, precision: int, scale: int,
        values: list[str], total: str | None,
    ) -> None:  # fmt: skip
        dtype = Decimal(precision, scale)
        made = [Aggregation("value", f, name=f, window=window) for f in ("sum", "mean", "max")]
        rows = events(*((1, NOON + i, Number(each)) for i, each in enumerate(values)), (2, NOON, None), dtype=dtype)
        source = FileSource("events.parquet", name="events", timestamp_field="happened")

        answer = self.ask(
            engine, view(Field("value", dtype), aggregations=made, source=source), rows,
            spine((1, NOON + len(values)), (2, NOON + 1), (3, NOON)), known_at=known_at,
        )  # fmt: skip

        exact = sum(map(Fraction, values))
        assert answer == [
            (Number(total) if total else None, pytest.approx(float(exact / len(values)), rel=1e-9, abs=1e-9 * float(
                sum(abs(Fraction(each)) for each in values)
            )), max(map(Number, values))), (None, None, None), (None, None, None),
        ]  # fmt: skip

    def test_one_inf_or_nan_does_not_fail_a_batch(self, engine: OfflineStore) -> None:
        functions = ("sum", "mean", "std", "var", "min", "max")
        made = [Aggregation("value", f, name=f) for f in functions]
        rows = events(
            (1, NOON, math.inf),
            (1, NOON, 1.0),
            (2, NOON, math.nan),
            (2, NOON, 1.0),
            (3, NOON, 1.0),
            (3, NOON, 3.0),
            dtype=Float64,
        )

        found = self.ask(
            engine, view(Field("value", Float64), aggregations=made), rows, spine((1, NOON), (2, NOON), (3, NOON))
        )  # fmt: skip

        assert [str(value) for value in found[0]] == ["inf", "inf", "nan", "nan", "1.0", "inf"]
        assert [str(value) for value in found[1]] == ["nan", "nan", "nan", "nan", "1.0", "nan"]
        assert found[2] == pytest.approx((4.0, 2.0, math.sqrt(2), 2.0, 1.0, 3.0))

    def test_a_float_column_of_whole_values_is_an_integer_field_and_nothing_else_is(self, engine: OfflineStore) -> None:
        whole = events((1, NOON, 7.0), (2, NOON, None), (3, NOON, math.nan), dtype=Float64)

        assert self.ask(engine, view(Field("value", Int64)), whole, spine((1, NOON), (2, NOON), (3, NOON))) == [
            (7,),
            (None,),
            (None,),
        ]
        with pytest.raises(SourceError, match="'value' of source 'events'"):
            self.ask(engine, view(Field("value", Int64)), events((1, NOON, 3.7), dtype=Float64), spine((1, NOON)))

    def test_answers_have_their_declared_types(self, engine: OfflineStore) -> None:
        rows = pa.table(
            {
                "user": pa.array([1]), "happened": pa.array([NOON], US), "small": pa.array([1], pa.int32()),
                "f": pa.array([0.5], pa.float32()), "d": pa.array([Number("1.25")], pa.decimal128(12, 2)),
                "day": pa.array([date(2020, 1, 1)]), "at_ns": pa.array([NOON * 1000 + 999], pa.timestamp("ns")),
                "list": pa.array([[1, None]], pa.list_(pa.int64())),
            }
        )  # fmt: skip
        fields = [
            Field("small", Int32), Field("f", Float32), Field("d", Decimal(12, 2)), Field("day", Date),
            Field("at_ns", Timestamp),
            Field("list", Array(Int64)),
        ]  # fmt: skip
        made = view(*fields)

        answer = engine.run(PointInTime(reads(made)), {"events": rows}, spine=spine((1, NOON))).reader().read_all()

        assert [answer.schema.field(field.name).type for field in fields] == [field.dtype.arrow() for field in fields]
        assert answer.drop_columns(["user", "event_timestamp", "row"]).to_pylist() == [
            {
                "small": 1, "f": 0.5, "d": Number("1.25"), "day": date(2020, 1, 1),
                "at_ns": datetime.fromtimestamp(NOON // SECOND, UTC), "list": [1, None],
            }
        ]  # fmt: skip
