"""Short ways over values are what the general way makes of them, value by value."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal as Number
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.dtypes import (
    INT_BOUNDS,
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
from asof.timing import moment
from asof.values.check import PYTHON_TYPES, checker, own_values
from asof.values.fit import fit, fit_values
from asof.values.from_arrow import python_values
from asof.values.packing import plain_values, plainer, restorer

TYPES = [
    Bool, Int32, Int64, Float32, Float64, Decimal(12, 2), String, Bytes, Date, Timestamp, Json, Array(Int64), Embedding(2),
]  # fmt: skip
EDGES = [edge + step for bounds in INT_BOUNDS.values() for edge in bounds for step in (-1, 0, 1)]
CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(EDGES), st.floats(), st.text(max_size=2),
    st.binary(max_size=2), st.dates(), st.sampled_from(
        [np.int64(1), np.float64(1.5), np.str_("x"), moment(7), datetime(2026, 1, 1), Number("1.50"), [1, 2], "{}", "7"]
    ),
)  # fmt: skip


OF_ONE_TYPE = st.one_of(
    st.lists(st.none() | cells, max_size=4)
    for cells in (
        st.booleans(),
        st.integers() | st.sampled_from(EDGES),
        st.floats(),
        st.text(),
        st.dates(),
        st.binary(),
    )
)

# To make an example costs more than to try one type on it; so each is tried on all types.


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, max_size=4) | OF_ONE_TYPE)
def test_values_that_are_called_the_types_own_are_given_back_by_its_check(values: list[Any]) -> None:
    for dtype in TYPES:
        own, present = PYTHON_TYPES.get(dtype.name), own_values(values, dtype)
        if present is None:
            # Nothing of the type's own was turned away.
            low, high = INT_BOUNDS.get(dtype.name, (-math.inf, math.inf))
            assert own is None or any(
                value is not None and (type(value) is not own or (own is int and not low <= value <= high))
                for value in values
            ), dtype
            continue
        assert repr(present) == repr([value for value in values if value is not None]), dtype
        assert repr(list(map(checker(dtype), present))) == repr(list(present)), dtype


def test_no_type_is_forgotten() -> None:
    assert set(PYTHON_TYPES) == {"Bool", "Int32", "Int64", "Float64", "String", "Bytes", "Date"}
    assert own_values([date(2026, 1, 1), None], Date) == [date(2026, 1, 1)]
    assert own_values([datetime(2026, 1, 1)], Date) is None
    assert own_values([True], Int64) is None and own_values([1], Bool) is None
    assert own_values([None, None], Json) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, max_size=4))
def test_a_column_is_fitted_as_its_values_are_one_by_one(values: list[Any]) -> None:
    for dtype in TYPES:
        together, misfits = fit_values(values, dtype)
        alone = [fit_values([value], dtype) for value in values]

        assert repr(together.to_pylist()) == repr([each.to_pylist()[0] for each, _ in alone]), dtype
        assert misfits == [(row, found[0][1]) for row, (_, found) in enumerate(alone) if found], dtype
        # And what is fitted fits as it is.
        again, none = fit(together, dtype)
        assert none == [] and repr(again.to_pylist()) == repr(together.to_pylist()), dtype


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, max_size=4))
def test_one_value_is_made_plain_and_restored_as_a_column_is(values: list[Any]) -> None:
    for dtype in TYPES:
        fitted, _ = fit_values(values, dtype)
        present = fitted.drop_null()
        plain, one, back = plain_values(present, dtype), plainer(dtype), restorer(dtype)

        if one is not None:
            assert repr([one(value) for value in python_values(present)]) == repr(plain), dtype
        assert repr([value if back is None else back(value) for value in plain]) == repr(python_values(present)), dtype
