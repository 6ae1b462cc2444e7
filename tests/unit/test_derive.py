"""On-demand functions: the same answers in every mode and on both sides, and a plain word for each way to go wrong."""

import decimal
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from asof.definitions import (
    Entity,
    FeatureView,
    Field,
    OnDemandFeatureView,
    PushSource,
    RequestSource,
    Snapshot,
    project_of,
)
from asof.derive import RowWiseFinding, check_row_wise, derive, derive_values, input_types, running
from asof.distribution import install_command
from asof.dtypes import DType
from asof.errors import DerivationError, MissingExtra
from asof.selection import Derivation, select
from asof.timing import moment
from asof.types import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)

NOON = 1_767_614_400_000_000
"""2026-01-05T12:00:00Z in microseconds."""

AMOUNTS = {"amount": Float64, "count": Int64}
EVERY_TYPE: dict[str, tuple[DType, Any]] = {
    "bool": (Bool, True),
    "i32": (Int32, -7),
    "i64": (Int64, 2**62),
    "f32": (Float32, 0.25),
    "f64": (Float64, 1 / 3),
    "decimal": (Decimal(12, 2), decimal.Decimal("12.50")),
    "text": (String, "Ünal"),
    "bytes": (Bytes, b"\x00\xff"),
    "day": (Date, date(2026, 1, 5)),
    "time": (Timestamp, datetime(2026, 1, 5, 11, 30, 0, 1, tzinfo=UTC)),
    "json": (Json, '{"a":1}'),
    "list": (Array(Int64), [1, None, 3]),
    "times": (Array(Timestamp), [datetime(2026, 1, 5, tzinfo=UTC)]),
    "vector": (Embedding(2), [0.5, -1.0]),
}


def view(
    function: Callable[[Any], Any] | None,
    answers: dict[str, DType],
    *,
    mode: str = "python",
    inputs: dict[str, DType] | None = None,
    name: str = "ratios",
) -> OnDemandFeatureView:
    request = RequestSource("request", [Field(each, dtype) for each, dtype in (inputs or AMOUNTS).items()])
    schema = [Field(each, dtype) for each, dtype in answers.items()]
    return OnDemandFeatureView(name, schema=schema, sources=[request], udf=function, mode=mode)


def derivation(of: OnDemandFeatureView, renamed: dict[str, str] | None = None) -> Derivation:
    inputs = tuple((name, (renamed or {}).get(name, name)) for name in input_types(of))
    return Derivation(of, inputs, tuple((name, f"{of.name}__{name}") for name in of.feature_names))


def table_of(columns: dict[str, tuple[DType, Sequence[Any]]]) -> pa.Table:
    n = len(next(iter(columns.values()))[1])
    arrays = {name: pa.array(values, dtype.arrow()) for name, (dtype, values) in columns.items()}
    return pa.table(arrays | {"event_timestamp": pa.array([NOON + row for row in range(n)], Timestamp.arrow())})


def amounts(amount: Sequence[float | None], count: Sequence[int | None]) -> pa.Table:
    return table_of({"amount": (Float64, amount), "count": (Int64, count)})


def run(of: OnDemandFeatureView, table: pa.Table) -> dict[str, list[Any]]:
    """What `derive` appends; and `derive_values` must answer the same."""
    made = derive(table, [derivation(of)], event_time_column="event_timestamp")
    answered = {column: made[column].to_pylist() for column in made.column_names[table.num_columns :]}
    columns = {name: [in_utc(value) for value in table[name].to_pylist()] for name in table.column_names}
    online = derive_values(columns, table.num_rows, [derivation(of)], [NOON + row for row in range(table.num_rows)])
    assert repr(online) == repr({column: [in_utc(value) for value in values] for column, values in answered.items()})
    for field in of.schema:
        assert made[f"{of.name}__{field.name}"].type == field.dtype.arrow()
    return {column.removeprefix(f"{of.name}__"): values for column, values in online.items()}


def in_utc(value: Any) -> Any:
    if isinstance(value, list):
        return [in_utc(each) for each in value]
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def price_in_python(row: dict[str, Any]) -> dict[str, Any]:
    if row["amount"] is None or not row["count"]:
        return {"price": None, "is_large": None}
    return {"price": row["amount"] / row["count"], "is_large": row["amount"] > 10}


def price_in_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    price = frame["amount"] / frame["count"].where(frame["count"] != 0)
    return pd.DataFrame({"is_large": (frame["amount"] > 10).where(price.notna()), "price": price})


def price_in_polars(frame: pl.DataFrame) -> pl.DataFrame:
    count = pl.when(pl.col("count") != 0).then(pl.col("count"))
    price = pl.col("amount") / count
    return frame.select(price=price, is_large=pl.when(price.is_not_null()).then(pl.col("amount") > 10))


PRICES = {"python": price_in_python, "pandas": price_in_pandas, "polars": price_in_polars}


@pytest.mark.parametrize("mode", PRICES)
def test_one_function_answers_the_same_in_every_mode(mode: str) -> None:
    table = amounts([30.0, 5.0, None, 7.0, -1.5], [3, None, 2, 0, 4])

    answered = run(view(PRICES[mode], {"price": Float64, "is_large": Bool}, mode=mode), table)

    assert answered == {"price": [10.0, None, None, None, -0.375], "is_large": [True, None, None, None, False]}


@pytest.mark.parametrize("mode", PRICES)
def test_the_check_has_nothing_to_say_of_a_good_function(mode: str) -> None:
    assert check_row_wise(view(PRICES[mode], {"price": Float64, "is_large": Bool}, mode=mode)) == []


@pytest.mark.parametrize("mode", PRICES)
def test_every_type_comes_back_as_it_went_in(mode: str) -> None:
    inputs = {name: dtype for name, (dtype, _) in EVERY_TYPE.items()}
    answers = {f"{name}_out": dtype for name, dtype in inputs.items()}
    functions = {
        "python": lambda row: {f"{name}_out": row[name] for name in inputs},
        "pandas": lambda frame: frame[list(inputs)].rename(columns=lambda name: f"{name}_out"),
        "polars": lambda frame: frame.select(pl.col(name).alias(f"{name}_out") for name in inputs),
    }
    table = table_of({name: (dtype, [value, None]) for name, (dtype, value) in EVERY_TYPE.items()})

    answered = run(view(functions[mode], answers, mode=mode, inputs=inputs), table)

    assert answered == {f"{name}_out": [value, None] for name, (_, value) in EVERY_TYPE.items()}


@pytest.mark.parametrize("nulls", [False, True], ids=["values", "all_null"])
def test_python_functions_see_the_declared_types(nulls: bool) -> None:
    inputs = {name: dtype for name, (dtype, _) in EVERY_TYPE.items()}
    seen: list[dict[str, Any]] = []
    of = view(lambda row: seen.append(row) or {"x": 1}, {"x": Int64}, inputs=inputs)
    table = table_of({name: (dtype, [None if nulls else value]) for name, (dtype, value) in EVERY_TYPE.items()})

    run(of, table)

    expected = {name: None if nulls else value for name, (_, value) in EVERY_TYPE.items()}
    assert seen == [expected | {"event_timestamp": moment(NOON)}] * 2
    assert repr(seen[0]) == repr(seen[1])
    assert seen[0]["event_timestamp"].tzinfo is UTC


@pytest.mark.parametrize("rows", [[None, None], [1, 2]], ids=["all_null", "values"])
def test_pandas_functions_see_arrow_backed_columns_of_the_declared_types(rows: list[Any]) -> None:
    inputs = {"a": Int64, "b": String, "c": Timestamp, "d": Decimal(12, 2)}
    seen: list[Any] = []
    of = view(lambda frame: seen.append(frame.dtypes) or pd.DataFrame({"x": [1, 2]}), {"x": Int64}, mode="pandas",
              inputs=inputs)  # fmt: skip
    table = table_of({name: (dtype, [None, None] if name == "b" else rows) for name, dtype in inputs.items()})

    run(of, table)

    expected = {name: pd.ArrowDtype(dtype.arrow()) for name, dtype in (inputs | {"event_timestamp": Timestamp}).items()}
    assert [dict(dtypes) for dtypes in seen] == [expected, expected]


def test_polars_functions_see_columns_of_the_declared_types_also_where_all_are_null() -> None:
    inputs = {"a": Int32, "b": Json, "c": Date, "d": Array(Float64)}
    seen: list[Any] = []
    of = view(lambda frame: seen.append(frame.schema) or pl.DataFrame({"x": [1]}), {"x": Int64}, mode="polars",
              inputs=inputs)  # fmt: skip

    run(of, table_of({name: (dtype, [None]) for name, dtype in inputs.items()}))

    schema = {"a": pl.Int32, "b": pl.String, "c": pl.Date, "d": pl.List(pl.Float64)}
    assert [dict(each) for each in seen] == [schema | {"event_timestamp": pl.Datetime("us", "UTC")}] * 2


def test_columns_of_near_types_reach_the_function_in_the_declared_ones() -> None:
    table = pa.table(
        {
            "amount": pa.array([1, 2], pa.int32()),
            "count": pa.array([3.0, math.nan]),
            "at": pa.array([1_500, 2_999], pa.timestamp("ns")),
        }
    )
    seen: list[Any] = []
    of = view(lambda row: seen.append(row) or {"x": row["amount"]}, {"x": Float64})

    derive(table, [derivation(of)], event_time_column="at")

    assert repr(seen) == repr(
        [
            {"amount": 1.0, "count": 3, "event_timestamp": moment(1)},
            {"amount": 2.0, "count": None, "event_timestamp": moment(2)},
        ]
    )


def test_moments_may_be_integer_microseconds() -> None:
    table = pa.table({"amount": [1.0], "count": [1], "t": [NOON + 1]})
    of = view(lambda row: {"at": row["event_timestamp"]}, {"at": Timestamp})

    made = derive(table, [derivation(of)], event_time_column="t")

    assert made["ratios__at"].cast(pa.int64()).to_pylist() == [NOON + 1]


@pytest.mark.parametrize("mode", PRICES)
def test_no_function_is_called_for_no_rows_and_the_columns_have_their_types(mode: str) -> None:
    of = view(lambda _: pytest.fail("called"), {"price": Float64, "tags": Array(String)}, mode=mode)

    assert run(of, amounts([], [])) == {"price": [], "tags": []}


def test_later_functions_see_what_earlier_ones_answered() -> None:
    first = view(lambda row: {"double": row["amount"] * 2}, {"double": Float64}, name="first")
    second = view(lambda frame: frame[["double"]].rename(columns={"double": "x"}) + 1, {"x": Float64}, mode="pandas",
                  inputs={"double": Float64}, name="second")  # fmt: skip
    chain = [derivation(first), derivation(second, {"double": "first__double"})]
    table = amounts([1.5, 2.5], [1, 2])

    made = derive(table, chain, event_time_column="event_timestamp")

    assert made.select(table.column_names).equals(table)
    assert made["second__x"].to_pylist() == [4.0, 6.0]
    columns = {"amount": [1.5, 2.5], "count": [1, 2]}
    assert derive_values(columns, 2, chain, NOON) == {"first__double": [3.0, 5.0], "second__x": [4.0, 6.0]}


def test_nan_is_null_from_pandas_and_a_float_from_the_others() -> None:
    table = amounts([1.0, 2.0], [1, 2])
    python = view(lambda row: {"x": math.nan if row["count"] == 1 else 0.5, "n": math.nan}, {"x": Float64, "n": Int64})
    polars = view(lambda frame: pl.DataFrame({"x": [math.nan, 0.5], "n": [math.nan, 7.0]}), {"x": Float64, "n": Int64},
                  mode="polars")  # fmt: skip
    arrow_backed = pd.array(pa.array([math.nan, 0.5]), dtype=pd.ArrowDtype(pa.float64()))
    for column in ([math.nan, 0.5], arrow_backed, pd.Series([pd.NA, 0.5], dtype=object)):
        pandas = view(lambda frame, column=column: pd.DataFrame({"x": column, "n": [math.nan, 7.0]}),
                      {"x": Float64, "n": Int64}, mode="pandas")  # fmt: skip
        assert run(pandas, table) == {"x": [None, 0.5], "n": [None, 7]}

    assert repr(run(python, table)) == "{'x': [nan, 0.5], 'n': [None, None]}"
    assert repr(run(polars, table)) == "{'x': [nan, 0.5], 'n': [None, 7]}"


def test_answers_are_fitted_alike_on_both_sides() -> None:
    answers = {"f32": Float32, "price": Decimal(12, 2), "at": Timestamp, "raw": Json, "whole": Int64, "v": Embedding(1)}
    loose = {"f32": 0.1, "price": 3, "at": "2026-01-05T12:00:00+01:00", "raw": {"b": [1]}, "whole": 4.0, "v": (0.1,)}
    of = view(lambda row: loose, answers)

    answered = run(of, amounts([1.0], [1]))

    assert answered == {
        "f32": [0.10000000149011612],
        "price": [decimal.Decimal("3.00")],
        "at": [datetime(2026, 1, 5, 11, tzinfo=UTC)],
        "raw": ['{"b":[1]}'],
        "whole": [4],
        "v": [[0.10000000149011612]],
    }
    assert answered["at"][0].tzinfo is UTC and str(answered["price"][0]) == "3.00"


def test_a_default_stands_in_place_of_a_null() -> None:
    for mode, function in PRICES.items():
        of = OnDemandFeatureView(
            "ratios", schema=[Field("price", Float64, default=-1), Field("is_large", Bool)], mode=mode, udf=function,
            sources=[RequestSource("request", [Field("amount", Float64), Field("count", Int64)])],
        )  # fmt: skip
        assert run(of, amounts([30.0, None], [3, 1]))["price"] == [10.0, -1.0]


def test_a_series_answers_a_view_of_one_field() -> None:
    table = amounts([1.0, 2.0], [3, 4])

    assert run(view(lambda frame: frame["amount"] * 2, {"x": Float64}, mode="pandas"), table) == {"x": [2.0, 4.0]}
    assert run(view(lambda frame: frame["amount"] * 2, {"x": Float64}, mode="polars"), table) == {"x": [2.0, 4.0]}


def test_a_function_that_changes_its_inputs_changes_no_feature() -> None:
    def greedy(row: dict[str, Any]) -> dict[str, Any]:
        row["tags"].append("x")
        return {"n": len(row.pop("tags"))}

    tags = [["a"], ["b", "c"]]
    of = view(greedy, {"n": Int64}, inputs={"tags": Array(String)})

    answered = derive_values({"tags": tags}, 2, [derivation(of)], NOON)

    assert answered == {"ratios__n": [2, 3]}
    assert tags == [["a"], ["b", "c"]]


def test_two_functions_of_equal_text_are_not_taken_for_one_another() -> None:
    made = [derivation(view(lambda row, k=k: {"x": k}, {"x": Int64})) for k in (1, 2)]

    assert [derive_values({"amount": [1.0], "count": [1]}, 1, [each], NOON)["ratios__x"] for each in made] == [[1], [2]]


def test_a_selection_is_derived_with_the_names_and_types_that_it_gives() -> None:
    user = Entity("user", join_keys=["user_id"])
    source = PushSource(
        "orders", schema=[Field("user_id", Int64), Field("total", Int32), Field("at", Timestamp)], timestamp_field="at"
    )
    spent, seen = (
        FeatureView(name, entities=[user], source=source, schema=[Field("user_id", Int64), Field("total", Int32)])
        for name in ("spent", "seen")
    )
    request = RequestSource("now", [Field("basket", Float64)])
    shares = OnDemandFeatureView(
        "shares", schema=[Field("share", Float64)], mode="python",
        sources=[spent, seen.with_join_key_map({"user_id": "friend_id"}), request],
        udf=lambda row: {"share": row["basket"] / (row["spent__total"] + row["seen__total"]) + row["friend_id"]},
    )  # fmt: skip
    doubled = OnDemandFeatureView(
        "doubled", schema=[Field("twice", Float64)], mode="polars", sources=[shares[["share"]]],
        udf=lambda frame: frame.select(twice=pl.col("share") * 2),
    )  # fmt: skip
    selection = select(Snapshot(1, "shop", project_of([doubled, shares, spent, seen])), ["doubled:twice"])
    columns = {"user_id": [1], "friend_id": [10], "spent__total": [3], "seen@friend_id__total": [5], "basket": [4.0]}

    answered = derive_values(columns, 1, selection.derivations, NOON)

    assert input_types(shares) == {
        "spent__total": Int32, "seen__total": Int32, "user_id": Int64, "friend_id": Int64, "basket": Float64,
    }  # fmt: skip
    assert list(input_types(doubled)) == ["share", "user_id", "friend_id"]
    assert answered == {"shares__share": [10.5], "doubled__twice": [21.0]}
    assert {output.column for output in selection.outputs} <= set(answered)


# -- what goes wrong ------------------------------------------------------------------------------------------------


def divide(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": row["amount"] / row["count"]}


LINE_OF_DIVIDE = divide.__code__.co_firstlineno + 1
ONE_FLOAT = {"x": Float64}


@pytest.mark.parametrize(
    ("function", "answers", "mode", "message"),
    [
        (divide, ONE_FLOAT, "python",
         f"its function raised ZeroDivisionError: float division by zero at {__file__}:{LINE_OF_DIVIDE}, for "
         "{'amount': 2.0, 'count': 0, 'event_timestamp': 2026-01-05T12:00:00.000001+00:00}"),
        (lambda row: {"x": row["amont"]}, ONE_FLOAT, "python", "next: did you mean 'amount'?"),
        (lambda frame: frame["nowhere"], ONE_FLOAT, "pandas", "its function raised KeyError: 'nowhere' at "),
        (lambda frame: frame["nowhere"], ONE_FLOAT, "polars", "its inputs are 'amount', 'count', 'event_timestamp'"),
        (lambda frame: 1 / 0, ONE_FLOAT, "polars", ", for 2 rows"),
        (lambda row: None, ONE_FLOAT, "python", "its function returned None for row 0, expected a dict of 'x'"),
        (lambda row: 7, ONE_FLOAT, "python", "its function returned 7 for row 0, expected a dict of 'x'"),
        (lambda frame: None, ONE_FLOAT, "pandas", "its function returned None, expected a pandas.DataFrame of 'x'"),
        (lambda frame: {"x": [1, 2]}, ONE_FLOAT, "pandas", "its function returned a dict, expected a pandas.DataFrame"),
        (lambda frame: frame.lazy(), ONE_FLOAT, "polars",
         "its function returned a LazyFrame, expected a polars.DataFrame of 'x'"),
        (lambda frame: frame["amount"], {"x": Float64, "y": Float64}, "pandas",
         "its function returned a Series, expected a pandas.DataFrame of 'x', 'y'"),
        (lambda row: {"x": 1.0} if row["count"] else {"y": 1.0}, ONE_FLOAT, "python",
         "its function returned 'y' for row 1, expected 'x' (missing 'x', undeclared 'y')"),
        (lambda row: {"x": 1.0, "y": 2}, ONE_FLOAT, "python",
         "its function returned 'x', 'y' for row 0, expected 'x' (undeclared 'y')"),
        (lambda frame: frame[["amount"]], ONE_FLOAT, "pandas",
         "its function returned 'amount', expected 'x' (missing 'x', undeclared 'amount')"),
        (lambda frame: pd.concat([frame["amount"].rename("x")] * 2, axis=1), ONE_FLOAT, "pandas",
         "its function returned 'x', 'x', expected 'x' (one of them twice)"),
        (lambda frame: frame.select(x="amount", y="count"), ONE_FLOAT, "polars",
         "its function returned 'x', 'y', expected 'x' (undeclared 'y')"),
        (lambda frame: frame["amount"].head(1), ONE_FLOAT, "pandas", "its function returned 1 row for 2"),
        (lambda frame: frame["amount"].head(1), ONE_FLOAT, "polars", "its function returned 1 row for 2"),
        (lambda frame: frame["amount"].iloc[::-1], ONE_FLOAT, "pandas",
         "its function returned a frame with a different index"),
        (lambda row: {"x": "much"}, ONE_FLOAT, "python",
         "field 'x' expects Float64, but in row 0 'much' is not a number; the same in 1 more rows"),
        (lambda row: {"x": row["amount"] + 0.5}, {"x": Int64}, "python",
         "field 'x' expects Int64, but in row 0 1.5 is not a whole number (Int64)"),
        (lambda row: {"x": True}, {"x": Int64}, "python", "field 'x' expects Int64, but in row 0 True is not Int64"),
        (lambda row: {"x": 2**63}, {"x": Int64}, "python", "in row 0 9223372036854775808 is outside Int64"),
        (lambda row: {"x": 2**31}, {"x": Int32}, "python", "in row 0 2147483648 is outside Int32"),
        (lambda row: {"x": "\ud800"}, {"x": String}, "python",
         "field 'x' expects String, but its function returned text that is not UTF-8"),
        (lambda frame: frame["amount"] / 2, {"x": Int64}, "pandas", "in row 0 0.5 is not a whole number (Int64)"),
        (lambda frame: frame["count"].astype(object).replace(0, "none"), {"x": Int64}, "pandas",
         "field 'x' expects Int64, but in row 1 'none' is not Int64"),
        (lambda frame: frame["amount"].cast(pl.String), ONE_FLOAT, "polars", "in row 0 '1.0' is not a number"),
        (lambda frame: pl.Series([object(), None], dtype=pl.Object), {"x": String}, "polars", "is not text (String)"),
    ],
)  # fmt: skip
def test_a_bad_function_is_told_what_is_wrong(
    function: Any, answers: dict[str, DType], mode: str, message: str
) -> None:
    of = view(function, answers, mode=mode)
    table = amounts([1.0, 2.0], [1, 0])

    with pytest.raises(DerivationError) as offline:
        derive(table, [derivation(of)], event_time_column="event_timestamp")
    with pytest.raises(DerivationError) as online:
        derive_values(table.select(["amount", "count"]).to_pydict(), 2, [derivation(of)], [NOON, NOON + 1])

    assert str(offline.value).startswith(f"{__file__}:") and "on-demand feature view 'ratios': " in str(offline.value)
    assert message in str(offline.value)
    assert message in str(online.value)


def test_a_large_table_runs_in_slices_and_a_misfit_has_the_tables_row_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SLICE_ROWS", 3)
    table = amounts([0.5] * 8, range(8))

    assert run(view(lambda row: {"x": row["count"]}, {"x": Int64}), table) == {"x": list(range(8))}
    of = view(lambda row: {"x": row["count"] if row["count"] < 7 else "end"}, {"x": Int64})
    with pytest.raises(DerivationError, match="in row 7 'end' is not Int64"):
        derive(table, [derivation(of)], event_time_column="event_timestamp")


def test_long_inputs_are_cut_short_in_messages() -> None:
    of = view(lambda row: 1 / 0, ONE_FLOAT, inputs={"text": String})

    with pytest.raises(DerivationError) as error:
        derive_values({"text": ["y" * 10_000]}, 1, [derivation(of)], NOON)

    assert "'text': 'yyyy" in str(error.value) and len(str(error.value)) < 500


def test_a_function_that_is_not_at_hand_is_said_so() -> None:
    of = view(None, ONE_FLOAT)

    with pytest.raises(DerivationError, match="its function is not loaded") as error:
        derive_values({"amount": [1.0], "count": [1]}, 1, [derivation(of)], NOON)

    assert error.value.hint == "run inside the feature repository that defines it"
    assert [finding.severity for finding in check_row_wise(of)] == ["error"]


@pytest.mark.parametrize("mode", ["pandas", "polars"])
def test_a_missing_extra_is_named(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, mode, None)
    of = view(lambda frame: frame, ONE_FLOAT, mode=mode)

    with pytest.raises(MissingExtra) as error:
        derive(amounts([1.0], [1]), [derivation(of)], event_time_column="event_timestamp")

    assert error.value.hint == install_command(mode)
    assert install_command(mode) in check_row_wise(of)[0].text


@pytest.mark.parametrize("mode", ["pandas", "polars"])
def test_a_value_that_is_not_of_the_inputs_type_is_named(mode: str) -> None:
    of = view(lambda frame: frame["amount"], ONE_FLOAT, mode=mode)

    with pytest.raises(DerivationError, match="input 'count' expects Int64: "):
        derive_values({"amount": [1.0], "count": ["one"]}, 1, [derivation(of)], NOON)
    with pytest.raises(DerivationError, match="input 'count' expects Int64, but in row 0 'one' is not Int64"):
        table = amounts([1.0], [1]).set_column(1, "count", pa.array(["one"]))
        derive(table, [derivation(of)], event_time_column="event_timestamp")


def test_a_missing_input_column_is_named() -> None:
    of = view(divide, ONE_FLOAT)

    with pytest.raises(DerivationError, match="there is no column 'count' among"):
        derive(amounts([1.0], [1]).drop(["count"]), [derivation(of)], event_time_column="event_timestamp")
    with pytest.raises(DerivationError, match="there is no column 'count' among"):
        derive_values({"amount": [1.0]}, 1, [derivation(of)], NOON)


# -- the check ------------------------------------------------------------------------------------------------------


def centred(frame: pd.DataFrame) -> pd.Series:
    return frame["amount"] - frame["amount"].mean()


def ranked(frame: pl.DataFrame) -> pl.Series:
    return frame["count"].cum_sum()


def shifted(frame: pd.DataFrame) -> pd.Series:
    return frame["amount"].shift(1)


def the_error_among(findings: list[RowWiseFinding]) -> str:
    errors = [finding.text for finding in findings if finding.severity == "error"]
    assert len(errors) == 1, findings
    return errors[0]


@pytest.mark.parametrize(
    ("function", "mode", "dtype"),
    [
        (centred, "pandas", Float64),
        (lambda frame: frame["amount"] / frame["amount"].max(), "polars", Float64),
        (lambda frame: frame["amount"].cumsum(), "pandas", Float64),
        (ranked, "polars", Int64),
        (shifted, "pandas", Float64),
        (lambda frame: pd.Series(range(len(frame))), "pandas", Int64),
        (lambda frame: frame["amount"].rank(), "pandas", Float64),
        (lambda frame: frame["amount"].sort_values().reset_index(drop=True), "pandas", Float64),
        (lambda frame: pl.Series([len(frame)] * len(frame)), "polars", Int64),
    ],
    ids="mean max cumsum polars_cumsum shift row_number rank sorted length".split(),
)
def test_the_check_refuses_what_is_not_row_wise(function: Any, mode: str, dtype: DType) -> None:
    text = the_error_among(check_row_wise(view(function, {"x": dtype}, mode=mode)))

    assert "on-demand feature view 'ratios': its function is not row-wise: field 'x' is " in text
    assert " among 8 rows, but " in text and "for {'amount': " in text
    assert text.endswith("compute each row from its own values; aggregate over rows in a feature view")


def test_the_check_refuses_chance_and_memory() -> None:
    chance = random.Random(1)
    seen: list[float] = []

    def remembering(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(row["amount"])
        return {"x": len(seen)}

    for function, dtype in ((lambda row: {"x": chance.random()}, Float64), (remembering, Int64)):
        text = the_error_among(check_row_wise(view(function, {"x": dtype})))
        assert "depends on more than its inputs (randomness, a clock, or earlier calls)" in text


def test_the_check_warns_of_odd_values_that_raise() -> None:
    findings = check_row_wise(view(divide, ONE_FLOAT))

    assert [finding.severity for finding in findings] == ["warning", "warning"]
    nulls, zeros = (finding.text for finding in findings)
    assert "raised TypeError" in nulls and "'amount': None, 'count': None" in nulls
    assert "nulls arrive as None" in nulls
    assert f"raised ZeroDivisionError: float division by zero at {__file__}:{LINE_OF_DIVIDE}" in zeros
    assert "'count': 0" in zeros and "such a row would fail the whole request" in zeros


@pytest.mark.parametrize(
    ("function", "mode", "message"),
    [
        (lambda row: {"x": row["amont"]}, "python", "raised KeyError: 'amont'"),
        (lambda row: {"x": undefined}, "python", "raised NameError: name 'undefined' is not defined"),  # noqa: F821
        (lambda row: {"x": row["amount"] + row["text"]}, "python", "raised TypeError"),
        (lambda frame: frame["amont"], "pandas", "raised KeyError: 'amont'"),
        (lambda frame: frame["amont"], "polars", "raised ColumnNotFoundError"),
        (lambda row: None, "python", "its function returned None, expected a dict of 'x'"),
        (lambda row: {"x": row["text"]}, "python", "field 'x' expects Float64, but "),
        (lambda row: {}, "python", "its function returned no fields, expected 'x' (missing 'x')"),
        (lambda frame: frame["amount"].dropna(), "pandas", "its function returned 0 rows for 1"),
        (lambda frame: frame["amount"].unique(maintain_order=True), "polars",
         "its function returned 7 rows for 8; each of these rows succeeds alone, so its function is not row-wise"),
        (lambda frame: None, "polars", "its function returned None, expected a polars.DataFrame of 'x'"),
    ],
)  # fmt: skip
def test_the_check_refuses_what_can_never_work(function: Any, mode: str, message: str) -> None:
    of = view(function, ONE_FLOAT, mode=mode, inputs={**AMOUNTS, "text": String})

    text = the_error_among(check_row_wise(of))

    assert message in text
    assert "for {'amount': " in text or " rows for 8" in text


@pytest.mark.parametrize(
    "function",
    [
        lambda row: {"x": {"gold": 1.0}[row["text"]]},
        lambda row: {"x": float(row["text"])},
        lambda row: {"x": math.log(1 - row["amount"])},
    ],
    ids=["looked_up", "parsed", "out_of_domain"],
)
def test_the_check_only_warns_where_the_real_values_cannot_be_guessed(function: Any) -> None:
    findings = check_row_wise(view(function, ONE_FLOAT, inputs={"amount": Float64, "text": String}))

    assert findings and {finding.severity for finding in findings} == {"warning"}


def test_the_check_refuses_what_raises_on_every_row_of_numbers() -> None:
    def unwritten(row: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("not written yet")

    assert "raised ValueError: not written yet at" in the_error_among(check_row_wise(view(unwritten, ONE_FLOAT)))


def test_the_check_says_where_it_could_not_check() -> None:
    findings = check_row_wise(view(lambda row: {"x": {"gold": 1.0}[row["text"]]}, ONE_FLOAT, inputs={"text": String}))

    assert "failed on all 24 generated rows, so the check that it is row-wise was not possible" in findings[-1].text


def test_the_check_refuses_an_input_hidden_by_the_moment() -> None:
    of = view(lambda row: {"x": 1.0}, ONE_FLOAT, inputs={"event_timestamp": Timestamp})

    assert "'event_timestamp' is hidden by the time of the request" in the_error_among(check_row_wise(of))


def test_the_check_generates_every_type_and_the_same_rows_for_a_seed() -> None:
    inputs = {name: dtype for name, (dtype, _) in EVERY_TYPE.items()}

    def rows_of(seed: int) -> list[str]:
        seen: list[str] = []
        of = view(lambda row: seen.append(repr(row)) or {"x": None}, {"x": Int64}, inputs=inputs)
        assert check_row_wise(of, seed=seed) == []
        return seen

    assert rows_of(3) == rows_of(3) != rows_of(4)
