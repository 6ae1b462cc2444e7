"""The SQL of profiles as text; a change shows here. `ASOF_WRITE_GOLDEN=1` writes the files again."""

from __future__ import annotations

import pytest

from asof.definitions import Entity, FeatureView, Field
from asof.dtypes import Array, Bool, Bytes, Date, Decimal, DType, Float64, Int64, Json, String, Timestamp
from asof.sql.duckdb.profile import DUCKDB_PROFILES
from asof.sql.measure import merged
from asof.sql.postgres.profile import POSTGRES_PROFILES
from asof.sql.profile import ProfiledColumn, ProfileDialect, ProfiledRows, WantedCells
from asof.sql.query import RowFilter
from tests.unit.test_sql_golden import CLICKS, ORDERS, STORED, TABLES, _check

FORMS: dict[str, ProfileDialect] = {"duckdb": DUCKDB_PROFILES, "postgres": POSTGRES_PROFILES}
CHOSEN = RowFilter(latest=1_706_745_600_000_000, earliest=1_704_067_200_000_000)
TYPES: dict[str, DType] = {
    "whole": Int64, "number": Float64, "exact": Decimal(10, 2), "text": String, "flag": Bool, "time": Timestamp,
    "day": Date, "raw": Bytes, "list": Array(Int64), "json": Json,
}  # fmt: skip
COLUMNS = [ProfiledColumn(name, dtype, f"f{place}") for place, (name, dtype) in enumerate(TYPES.items())]
HIDDEN = ProfiledColumn("hidden", String, "f10", is_hidden=True)


@pytest.mark.parametrize("engine", FORMS)
@pytest.mark.parametrize("source", ["orders", "clicks"])
def test_the_rows_that_are_measured(engine: str, source: str) -> None:
    of = {"orders": ORDERS, "clicks": CLICKS}[source]
    fields = [Field("user_id", Int64), Field("amount", Int64), Field("page", String)]
    view = FeatureView("latest", source=of, entities=[Entity("user", ["user_id"])], schema=fields)
    columns = tuple(ProfiledColumn(each.name, each.dtype, f"f{place}") for place, each in enumerate(view.features))
    tables = TABLES if engine == "duckdb" else STORED

    _check(f"{engine}/profile_rows_{source}", ProfiledRows(view, CHOSEN, columns).select(tables[source]))


@pytest.mark.parametrize("engine", FORMS)
@pytest.mark.parametrize("estimated", [False, True])
def test_the_measures_of_each_type(engine: str, estimated: bool) -> None:
    columns = [*COLUMNS, HIDDEN]
    terms = [
        term
        for place, each in enumerate(columns)
        for term in FORMS[engine].measures(each, f"c{place}", estimated=estimated)
    ]

    _check(f"{engine}/profile_measures{'_estimated' if estimated else ''}", ",\n".join(terms))


@pytest.mark.parametrize("engine", FORMS)
def test_the_frequent_values(engine: str) -> None:
    texts = [FORMS[engine].frequent(each, place, "rows") for place, each in enumerate(COLUMNS) if each.has_top_values]

    _check(f"{engine}/profile_frequent", "\n".join(texts))


@pytest.mark.parametrize("engine", FORMS)
def test_the_counts_of_cells(engine: str) -> None:
    whole, _, _, text, flag, time, *_ = COLUMNS
    wanted = [
        WantedCells(whole, [1.0, 2.5], [1, 2**63 - 1]), WantedCells(text, [3.0], ["", "it's"]),
        WantedCells(flag, [], [True, False]), WantedCells(time, [1e15], []), WantedCells(HIDDEN, [], []),
    ]  # fmt: skip

    _check(f"{engine}/profile_cells", FORMS[engine].cells(wanted, "rows"))


@pytest.mark.parametrize("engine", FORMS)
def test_a_sample(engine: str) -> None:
    _check(f"{engine}/profile_sample", FORMS[engine].sample("rows", 0.005))


def test_wide_bins_are_sums_of_fine_ones() -> None:
    assert merged([1.0, 2.0, 3.0], [1, 2, 3, 4], [2.0]) == [3, 7]
    assert merged([1.0, 2.0, 3.0], [1, 2, 3, 4], []) == [10]
    assert merged([], [], [1.0]) == [0, 0]
